import Foundation
import HostIO
import QMP
import Testing

@testable import Agent

/// The parts of this layer together, with QEMU's own migration in place of the relay.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct DirectMigrationTests {
  @Test(arguments: QEMUProgram.installed, QEMUProgram.installed)
  func aGuestMovesIntoAStartedQEMU(from: QEMUProgram, to: QEMUProgram) async throws {
    let folder = "/tmp/godwit-test-\(UUID().uuidString.prefix(8))"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try PrivateDirectory.make(folder)
    let disk = folder + "/disk.raw"
    try Data(count: 1 << 20).write(to: URL(filePath: disk))
    let name = "move-\(UUID().uuidString.prefix(6))"
    let guest = [
      "-name", name, "-machine", "pc-i440fx-7.2", "-blockdev",
      "driver=file,filename=\(disk),node-name=f0", "-blockdev", "driver=raw,file=f0,node-name=d0",
      "-device", "virtio-blk-pci,drive=d0,id=vblk0",
    ]
    let source = try await RunningQEMU(from, guest)
    let vm = try await VMResolver.resolve(name)
    #expect(vm.process?.pid == source.pid)
    // By its path, written otherwise than on the command line: the kernel says who serves it.
    let sameByPath = try await VMResolver.resolve("qmp:/tmp/../" + vm.monitorPath)
    #expect(sameByPath.name == name && sameByPath.process?.pid == source.pid)

    var configuration = AgentConfiguration()
    configuration.stateDirectory = folder + "/state"
    configuration.runtimeDirectory = folder + "/run"
    configuration.definitionsDirectory = folder + "/vms"
    configuration.allowedPrograms = [to.path]
    configuration.acceptSourceCommandLine = true
    configuration.allowedPaths = [folder, "/tmp/qemu", "/usr/share"] + to.firmware.dropFirst()
    let sourceMonitor = try await Monitor.connect(path: vm.monitorPath, timeoutMs: 60_000)
    let facts = try await VMFacts.gather(sourceMonitor.client)
    // The firmware folder is the program's, not the VM's.
    let arguments = to.firmware + (vm.process?.arguments.dropFirst(from.firmware.count) ?? [])
    let launch = try QEMULaunch.prepare(
      name: name, sourceProgram: vm.process?.program ?? "", sourceArguments: Array(arguments),
      machineType: facts.machineType, configuration: configuration)
    #expect(!launch.arguments.contains("-qmp"))
    let qemu = try await IncomingQEMU.start(launch, id: "e2e", configuration: configuration)
    let target = qemu.monitor.client
    #expect(
      try await IncomingQEMU.find(id: "e2e", configuration: configuration)?.pid == qemu.identity.pid
    )
    let refusals = PrepareChecks.check(
      source: facts, destination: try await VMFacts.gather(target),
      host: try await HostFacts.gather(), request: MigrationRequest(vm: name, destination: "there"))
    #expect(refusals == [])

    try await target.migrateIncoming(uri: "unix:\(folder)/run/in.sock")
    try await sourceMonitor.client.migrate(uri: "unix:\(folder)/run/in.sock")
    var info = try await sourceMonitor.client.queryMigrate()
    while !info.status.isFinal {
      try await Task.sleep(for: .milliseconds(20))
      info = try await sourceMonitor.client.queryMigrate()
    }
    #expect(info.status == .completed, "\(info.errorDescription ?? "")")
    while try await target.queryStatus().state == .inMigrate {
      try await Task.sleep(for: .milliseconds(20))
    }
    #expect(try await target.queryStatus() == VMStatus(state: .paused, isRunning: false))
    try await sourceMonitor.client.quit()
    try await target.cont()
    #expect(try await target.queryStatus().isRunning)
    #expect(qemu.logTail() == "")
    await qemu.discard()
  }
}
