import Foundation
import HostIO
import QMP
import Testing

@testable import Agent

@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct GatherTests {
  private static let machine = [
    "-machine", "pc-i440fx-7.2,memory-backend=mem0", "-smp", "2", "-uuid",
    "8d9f7a52-6a0e-4c1b-9d2f-2d3c6c2b1a11", "-name", "guest=gather",
    "-object", "memory-backend-memfd,id=mem0,size=65664K,share=on",
  ]
  private static let incoming = ["-S", "-incoming", "defer"]

  private func disk(_ name: String) throws -> (path: String, arguments: [String]) {
    let path = "/tmp/godwit-test-\(UUID().uuidString.prefix(8)).raw"
    try Data().write(to: URL(filePath: path))
    truncate(path, 8 << 20)
    return (
      path,
      [
        "-blockdev", "driver=file,filename=\(path),node-name=f0", "-blockdev",
        "driver=raw,file=f0,node-name=d0", "-device", "virtio-blk-pci,drive=d0,id=vblk0",
      ]
    )
  }

  @Test(arguments: QEMUProgram.installed, QEMUProgram.installed)
  func aRealPairHasNothingToRefuse(from: QEMUProgram, to: QEMUProgram) async throws {
    let (path, disk) = try disk("a")
    defer { unlink(path) }
    let source = try await RunningQEMU(from, Self.machine + disk)
    let target = try await RunningQEMU(to, Self.machine + disk + Self.incoming)
    let sourceMonitor = try await Monitor.connect(path: source.monitorPath, timeoutMs: 60_000)
    let targetMonitor = try await Monitor.connect(path: target.monitorPath, timeoutMs: 60_000)
    let facts = try await VMFacts.gather(sourceMonitor.client)
    let waiting = try await VMFacts.gather(targetMonitor.client)
    #expect(facts.name == "gather" && facts.machineType == "pc-i440fx-7.2")
    #expect(!facts.usesKVM && facts.cpuCount == 2 && facts.cpuType == "qemu64-x86_64-cpu")
    #expect(facts.cpuFeatures.contains { $0.bits != 0 })
    #expect(facts.backends == [.init(id: "mem0", size: 65664 << 10, isShared: true)])
    #expect(facts.disks.count == 1 && facts.disks[0].virtualSize == 8 << 20)
    #expect(facts.ramBytes > 65664 << 10 && facts.knownCapabilities.contains("return-path"))
    #expect(waiting.runState == "inmigrate")
    let refusals = PrepareChecks.check(
      source: facts, destination: waiting, host: try await HostFacts.gather(),
      request: MigrationRequest(vm: "gather", destination: "there"))
    #expect(refusals == [])
    let copy = try JSONDecoder().decode(VMFacts.self, from: JSONEncoder().encode(facts))
    #expect(copy == facts)
  }

  @Test(arguments: QEMUProgram.installed, ["q35", "microvm", "pc,memory-backend=mem0"])
  func otherMachines(program: QEMUProgram, machine: String) async throws {
    var arguments = ["-machine", machine, "-smp", "4"]
    if machine.contains("mem0") {
      arguments += [
        "-object", "memory-backend-file,id=mem0,size=65664K,mem-path=/dev/shm,share=on",
      ]
    }
    let source = try await RunningQEMU(program, arguments)
    let target = try await RunningQEMU(program, arguments + Self.incoming)
    let sourceMonitor = try await Monitor.connect(path: source.monitorPath, timeoutMs: 60_000)
    let targetMonitor = try await Monitor.connect(path: target.monitorPath, timeoutMs: 60_000)
    let facts = try await VMFacts.gather(sourceMonitor.client)
    #expect(facts.cpuCount == 4 && !facts.ramBlocks.isEmpty)
    let refusals = PrepareChecks.check(
      source: facts, destination: try await VMFacts.gather(targetMonitor.client), host: nil,
      request: MigrationRequest(vm: "a", destination: "b"))
    #expect(refusals == [])
    let shared = try await SharedMemoryBackend.locate(sourceMonitor.client, pid: source.pid)
    #expect(shared.map(\.blockName) == (machine.contains("mem0") ? ["mem0"] : []))
  }

  @Test(arguments: QEMUProgram.installed)
  func devicesThatCannotMigrateAreSeen(program: QEMUProgram) async throws {
    let qemu = try await RunningQEMU(
      program,
      [
        "-m", "65664K,maxmem=1G,slots=2", "-object", "memory-backend-ram,id=vm0,size=128M",
        "-device", "virtio-mem-pci,memdev=vm0,requested-size=0", "-object",
        "memory-backend-ram,id=iv0,size=1M,share=on", "-device", "ivshmem-plain,memdev=iv0",
      ])
    let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
    let facts = try await VMFacts.gather(monitor.client)
    #expect(facts.iterativeDevices == ["virtio-mem-pci"])
    #expect(facts.blockedReasons.contains { $0.contains("ivshmem") })
    let codes = PrepareChecks.check(
      source: facts, destination: nil, host: nil,
      request: MigrationRequest(vm: "a", destination: "b")
    ).map(\.code)
    #expect(Set(codes).isSuperset(of: [.iterativeDevice, .blockedByQEMU]))
  }

  @Test func aRealMismatchIsRefused() async throws {
    let program = QEMUProgram.installed[0]
    let source = try await RunningQEMU(
      program, ["-device", "virtio-rng-pci", "-vga", "std", "-cpu", "max"])
    let target = try await RunningQEMU(program, ["-m", "130M"] + Self.incoming)
    let sourceMonitor = try await Monitor.connect(path: source.monitorPath, timeoutMs: 60_000)
    let targetMonitor = try await Monitor.connect(path: target.monitorPath, timeoutMs: 60_000)
    try await sourceMonitor.client.migrateSetCapabilities(["xbzrle": true])
    let refusals = PrepareChecks.check(
      source: try await VMFacts.gather(sourceMonitor.client),
      destination: try await VMFacts.gather(targetMonitor.client), host: nil,
      request: MigrationRequest(vm: "a", destination: "b"))
    let codes = Set(refusals.map(\.code))
    #expect(codes.isSuperset(of: [.capability, .cpuModel, .ramBlocks]))
    #expect(refusals.contains { $0.cause.contains("vga.vram") && $0.code == .ramBlocks })
  }

  /// Two backends of one size: bytes written into each file turn up at that backend's guest address.
  @Test(arguments: QEMUProgram.installed)
  func sharedMemoryIsFoundExactly(program: QEMUProgram) async throws {
    let qemu = try await RunningQEMU(
      program,
      [
        "-S", "-m", "131328K", "-object", "memory-backend-memfd,id=m0,size=65664K,share=on",
        "-object", "memory-backend-memfd,id=m1,size=65664K,share=on", "-numa", "node,memdev=m0",
        "-numa", "node,memdev=m1",
      ])
    let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
    let found = try await SharedMemoryBackend.locate(monitor.client, pid: qemu.pid)
    #expect(found.map(\.blockName) == ["m0", "m1"])
    let marks: [UInt32] = [0xA0B1_C2D3, 0x1425_3647]
    for (backend, mark) in zip(found, marks) {
      #expect(backend.offset == 0 && backend.length == 65664 << 10)
      let file = try SharedFile(
        path: backend.path, offset: backend.offset, length: backend.length, writable: true)
      try withUnsafeBytes(of: mark.littleEndian) { try file.write($0, at: 2 << 20) }
    }
    for (base, mark) in zip([0, 65664 << 10], marks) {
      let address = String((2 << 20) + base, radix: 16)
      let text = try await monitor.client.humanMonitor("xp /1wx 0x\(address)")
      #expect(text.contains("0x" + String(mark, radix: 16)), "\(text)")
    }
  }

  @Test(arguments: QEMUProgram.installed)
  func namedFilesAreFoundAndPrivateMemoryIsNot(program: QEMUProgram) async throws {
    let path = "/dev/shm/godwit-test-\(UUID().uuidString.prefix(8))"
    defer { unlink(path) }
    for (kind, expected) in [
      ("memory-backend-file,mem-path=\(path),share=on", ["m0"]),
      ("memory-backend-memfd,share=off", []), ("memory-backend-ram", []),
    ] {
      let qemu = try await RunningQEMU(
        program, ["-machine", "pc,memory-backend=m0", "-object", "\(kind),id=m0,size=65664K"])
      let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
      let found = try await SharedMemoryBackend.locate(monitor.client, pid: qemu.pid)
      #expect(found.map(\.blockName) == expected, "\(kind)")
    }
  }
}
