import QMP
import Testing

@testable import Agent

@Suite struct PrepareChecksTests {
  /// A healthy guest of 64 MiB and a bit.
  private func facts(
    _ version: QEMUVersion = QEMUVersion(10, 0, 2), _ change: (inout VMFacts) -> Void = { _ in }
  ) -> VMFacts {
    var facts = VMFacts(
      version: version, usesKVM: false, machineType: "pc-i440fx-7.2", uuid: "u",
      runState: "running",
      isRunning: true, cpuCount: 2,
      ramBlocks: [
        .init(name: "mem0", usedSize: 65664 << 10, totalSize: 65664 << 10),
        .init(name: "/rom@etc/acpi/tables", usedSize: 128 << 10, totalSize: 2 << 20),
        .init(name: "pc.bios", usedSize: 256 << 10, totalSize: 256 << 10),
      ], migrationStatus: "none")
    facts.backends = [.init(id: "mem0", size: 65664 << 10, isShared: true)]
    facts.cpuType = "qemu64-x86_64-cpu"
    facts.cpuFeatures = [.init(leaf: 1, subleaf: nil, register: "EDX", bits: 0b1110)]
    facts.disks = [.init(device: "vblk0", fileName: "/images/a", virtualSize: 8 << 20)]
    facts.knownMachineTypes = ["pc-i440fx-7.2", "microvm"]
    change(&facts)
    return facts
  }

  private func waiting(_ change: (inout VMFacts) -> Void = { _ in }) -> VMFacts {
    facts {
      $0.runState = "inmigrate"
      $0.isRunning = false
      change(&$0)
    }
  }

  private let request = MigrationRequest(vm: "a", destination: "b")

  private func codes(
    _ source: VMFacts, _ destination: VMFacts? = nil, host: HostFacts? = nil,
    request: MigrationRequest? = nil
  ) -> [Refusal.Code] {
    let refusals = PrepareChecks.check(
      source: source, destination: destination, host: host, request: request ?? self.request)
    for refusal in refusals {
      #expect(!refusal.cause.isEmpty && !refusal.remedy.isEmpty, "\(refusal)")
    }
    return refusals.map(\.code)
  }

  @Test func aGuestTooLargeToKeepTrackOfIsRefusedWithWhatToSet() throws {
    // 1.625 bytes a page: 512 GiB fit in the 256 MiB of the default, 1 TiB doesn't.
    let limit: UInt64 = 256 << 20
    func refusals(_ bytes: UInt64) -> [Refusal] {
      let guest = facts { $0.ramBlocks = [.init(name: "m", usedSize: bytes, totalSize: bytes)] }
      return PrepareChecks.ledger(guest, memoryLimit: limit)
    }
    #expect(refusals(512 << 30).isEmpty)
    let refusal = try #require(refusals(1 << 40).first)
    #expect(refusal.code == .memory && refusal.remedy.contains("\"417MiB\""), "\(refusal)")
  }

  @Test func aHealthyPairPasses() {
    #expect(codes(facts(), waiting(), host: HostFacts(memoryAvailable: 1 << 30)) == [])
    // A table that QEMU grew at the source, and an older QEMU at the destination.
    let older = waiting {
      $0.version = QEMUVersion(8, 2)
      $0.ramBlocks[1].usedSize = 64 << 10
    }
    #expect(codes(facts(), older) == [])
    // More features than the guest has seen do no harm.
    #expect(codes(facts(), waiting { $0.cpuFeatures[0] = more }) == [])
  }
  private let more = CPUFeatureWord(leaf: 1, subleaf: nil, register: "EDX", bits: 0b1111)

  @Test(arguments: ["active", "setup", "postcopy-active", "device", "status-of-2031"])
  func aRunningMigration(status: String) {
    #expect(codes(facts { $0.migrationStatus = status }) == [.migrationRunning])
  }

  @Test(arguments: ["completed", "failed", "cancelled"])
  func anEndedMigrationIsNoObstacle(status: String) {
    #expect(codes(facts { $0.migrationStatus = status }) == [])
  }

  @Test(arguments: ["inmigrate", "postmigrate", "shutdown", "internal-error", "save-vm"])
  func statesThatCannotMigrate(state: String) {
    #expect(codes(facts { $0.runState = state }) == [.runState])
  }

  @Test(arguments: ["paused", "prelaunch", "suspended", "io-error", "guest-panicked"])
  func statesThatCan(state: String) { #expect(codes(facts { $0.runState = state }) == []) }

  @Test(arguments: [
    "multifd", "compress", "xbzrle", "rdma-pin-all", "x-colo", "background-snapshot", "mapped-ram",
    "postcopy-ram", "x-ignore-shared", "zero-copy-send",
  ])
  func capabilitiesThatHidePages(name: String) {
    #expect(codes(facts { $0.capabilities = [name] }) == [.capability])
  }

  @Test func harmlessCapabilities() {
    #expect(codes(facts { $0.capabilities = ["events", "return-path", "auto-converge"] }) == [])
  }

  @Test func encryptedStream() {
    #expect(codes(facts { $0.tlsCreds = "tls0" }) == [.tlsCredentials])
  }

  @Test func devicesThatSendWhileTheGuestRuns() {
    #expect(
      codes(facts { $0.iterativeDevices = ["vfio-pci", "vfio-pci", "virtio-mem-pci"] })
        == [.iterativeDevice, .iterativeDevice])
    #expect(codes(facts { $0.capabilities = ["dirty-bitmaps"] }) == [.dirtyBitmaps])
  }

  @Test func whatQEMUItselfBlocks() {
    let refusals = PrepareChecks.check(
      source: facts { $0.blockedReasons = ["State blocked by ivshmem"] }, destination: nil,
      host: nil, request: request)
    #expect(refusals.map(\.code) == [.blockedByQEMU])
    #expect(refusals.first?.cause.contains("ivshmem") == true)
  }

  @Test func oldQEMUUnderTCGLosesPagesOfRoundSizes() {
    let round: (inout VMFacts) -> Void = { $0.ramBlocks[0].usedSize = 64 << 20 }
    #expect(codes(facts(QEMUVersion(7, 2, 22), round)) == [.lostDirtyPages])
    #expect(codes(facts(QEMUVersion(8, 2, 9), round)) == [.lostDirtyPages])
    #expect(codes(facts(QEMUVersion(9, 0, 0), round)) == [])
    #expect(codes(facts(QEMUVersion(7, 2, 22))) == [])
    #expect(
      codes(
        facts(QEMUVersion(7, 2, 22)) {
          round(&$0)
          $0.usesKVM = true
        }) == [])
    let display = VMFacts.RAMBlock(name: "vga.vram", usedSize: 16 << 20, totalSize: 16 << 20)
    #expect(
      codes(facts(QEMUVersion(7, 2, 22)) { $0.ramBlocks.append(display) }) == [.lostDirtyPages])
    let refusals = PrepareChecks.check(
      source: facts(QEMUVersion(7, 2, 22), round), destination: nil, host: nil, request: request)
    #expect(refusals.first?.remedy.contains("65600K") == true)
  }

  @Test func requestsThatMakeNoSense() {
    func asking(_ change: (inout MigrationRequest) -> Void) -> [Refusal.Code] {
      var asked = request
      change(&asked)
      return codes(facts { $0.backends[0].isShared = false }, request: asked)
    }
    #expect(asking { $0.laneCount = 0 } == [.request])
    #expect(asking { $0.laneCount = 65 } == [.request])
    #expect(asking { $0.downtimeLimitMs = 0 } == [.request])
    #expect(asking { $0.bandwidthBytesPerSecond = 0 } == [.request])
    #expect(asking { $0.pageSource = .shared } == [.sharedMemoryMissing])
    #expect(asking { $0.pageSource = .auto } == [])
  }

  @Test func theDestinationMustWait() {
    #expect(codes(facts(), waiting { $0.runState = "running" }) == [.destinationState])
    #expect(codes(facts(), waiting { $0.runState = "postmigrate" }) == [.destinationState])
  }

  @Test func accelerators() {
    #expect(codes(facts { $0.usesKVM = true }, waiting()) == [.accelerator])
  }

  @Test func machineTypes() {
    let other = waiting { $0.machineType = "pc-i440fx-10.0" }
    let refusals = PrepareChecks.check(
      source: facts(), destination: other, host: nil, request: request)
    #expect(refusals.map(\.code) == [.machineType])
    #expect(refusals.first?.remedy.contains("-machine pc-i440fx-7.2") == true)
    let newer = PrepareChecks.check(
      source: facts { $0.machineType = "pc-i440fx-10.0" }, destination: waiting(), host: nil,
      request: request)
    #expect(newer.first?.remedy.contains("install a QEMU") == true)
    let (here, there) = (
      facts { $0.machineType = "microvm" }, waiting { $0.machineType = "microvm" }
    )
    #expect(codes(here, there) == [])
    let elsewhere = waiting {
      $0.machineType = "microvm"
      $0.version = QEMUVersion(10, 1)
    }
    #expect(codes(here, elsewhere) == [.machineType])
    #expect(PairChecks.isVersioned("pc-q35-rhel9.4.0") && PairChecks.isVersioned("pc-i440fx-7.2"))
    #expect(!PairChecks.isVersioned("microvm") && !PairChecks.isVersioned("isapc"))
  }

  @Test func theWrongVM() {
    #expect(codes(facts(), waiting { $0.uuid = "other" }) == [.uuid])
    let none = "00000000-0000-0000-0000-000000000000"
    #expect(codes(facts(), waiting { $0.uuid = none }) == [])
  }

  @Test func cpus() {
    #expect(codes(facts(), waiting { $0.cpuCount = 4 }) == [.cpuCount])
    let model = waiting {
      $0.cpuType = "Nehalem-x86_64-cpu"
      $0.cpuFeatures = []
    }
    let refusals = PrepareChecks.check(
      source: facts(), destination: model, host: nil, request: request)
    #expect(refusals.map(\.code) == [.cpuModel])
    #expect(refusals.first?.remedy.contains("-cpu qemu64 ") == true)
    let less = CPUFeatureWord(leaf: 1, subleaf: nil, register: "EDX", bits: 0b0110)
    let missing = PrepareChecks.check(
      source: facts(), destination: waiting { $0.cpuFeatures = [less] }, host: nil, request: request
    )
    #expect(missing.map(\.code) == [.cpuFeatures])
    #expect(missing.first?.cause.contains("CPUID 0x1 EDX bits 0x8") == true)
    #expect(codes(facts(), waiting { $0.cpuFeatures = [] }) == [], "unknown is not different")
    let threads = CPUFeatureWord(leaf: 1, subleaf: nil, register: "EDX", bits: 1 << 28 | 0b1110)
    #expect(codes(facts { $0.cpuFeatures = [threads] }, waiting()) == [], "topology is no feature")
  }

  @Test func ramBlocksThatDiffer() {
    #expect(
      codes(facts(), waiting { $0.ramBlocks[0].name = "pc.ram" }) == [.ramBlocks, .ramBlocks])
    #expect(codes(facts(), waiting { $0.ramBlocks[0].usedSize += 4096 }) == [.ramBlocks])
    #expect(codes(facts(), waiting { $0.ramBlocks.removeLast() }) == [.ramBlocks])
    let tooLarge = facts { $0.ramBlocks[1].usedSize = 4 << 20 }
    #expect(codes(tooLarge, waiting()) == [.ramBlocks])
    // Twice the same name, from a peer that means no good.
    #expect(codes(facts(), waiting { $0.ramBlocks.append($0.ramBlocks[0]) }) == [])
  }

  @Test func disksThatDiffer() {
    #expect(codes(facts(), waiting { $0.disks = [] }) == [.disks])
    #expect(codes(facts(), waiting { $0.disks[0].virtualSize += 512 }) == [.disks])
    #expect(codes(facts(), waiting { $0.disks[0].isReadOnly = true }) == [.disks])
    #expect(codes(facts { $0.disks[0].isReadOnly = true }, waiting()) == [])
  }

  @Test func freeMemory() {
    let little = HostFacts(memoryAvailable: 32 << 20)
    #expect(codes(facts(), waiting(), host: little) == [.memory])
    #expect(codes(facts(), host: little) == [.memory])
    #expect(codes(facts(), host: HostFacts(memoryAvailable: nil)) == [])
    // Huge pages were taken when QEMU started.
    #expect(codes(facts(), waiting { $0.ramBlocks[0].pageSize = 2 << 20 }, host: little) == [])
    let absurd = facts {
      $0.ramBlocks = [
        .init(name: "a", usedSize: .max, totalSize: .max),
        .init(name: "b", usedSize: .max, totalSize: .max),
      ]
    }
    #expect(codes(absurd, host: little) == [.memory])
  }

  @Test func availableMemoryIsRead() async throws {
    #expect(HostFacts.parseAvailable("MemFree: 1 kB\nMemAvailable:   23456 kB\n") == 23456 << 10)
    #expect(HostFacts.parseAvailable("MemAvailable: 99999999999999999999 kB") == nil)
    #expect(HostFacts.parseAvailable("MemAvailable: 18446744073709551615 kB") == nil)
    #expect(try await HostFacts.gather().memoryAvailable ?? 0 > 1 << 20)
  }
}
