import Foundation
import HostIO
import QMP
import Testing

@testable import Agent

@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct IncomingQEMUTests {
  private let folder = "/tmp/godwit-test-\(UUID().uuidString.prefix(8))"

  private func configuration(_ program: QEMUProgram) -> AgentConfiguration {
    var configuration = AgentConfiguration()
    configuration.stateDirectory = folder + "/state"
    configuration.runtimeDirectory = folder + "/run"
    configuration.allowedPrograms = [program.path]
    configuration.startTimeoutMs = 60_000
    return configuration
  }

  private func launch(_ program: QEMUProgram, _ more: [String] = []) throws -> QEMULaunch {
    let arguments =
      program.firmware + ["-accel", "tcg", "-m", "65664K", "-nodefaults", "-display", "none"] + more
    return try QEMULaunch.fromDefinition(
      VMDefinition(name: "web", program: program.path, arguments: arguments), machineType: nil,
      configuration: configuration(program))
  }

  @Test(arguments: QEMUProgram.installed)
  func startsPausedAndWaiting(program: QEMUProgram) async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let qemu = try await IncomingQEMU.start(
      launch(program), id: "m-1", configuration: configuration(program))
    #expect(qemu.identity.isAlive)
    #expect(try await qemu.monitor.client.queryStatus().state == .inMigrate)
    #expect(try await qemu.monitor.client.queryStatus().isRunning == false)
    try await qemu.monitor.client.migrateIncoming(uri: "unix:\(folder)/run/in.sock")
    #expect(FileManager.default.fileExists(atPath: folder + "/run/in.sock"))
    let session = ProcFile.text("/proc/\(qemu.identity.pid)/stat")?.split(separator: " ").dropFirst(
      5)
    #expect(session?.first.map(String.init) == "\(qemu.identity.pid)", "a session of its own")
    await qemu.discard()
    #expect(!qemu.identity.isAlive)
    #expect(!FileManager.default.fileExists(atPath: folder + "/run/vm-m-1"))
  }

  @Test func whatEndsItEarlyIsReported() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let program = QEMUProgram.installed[0]
    let error = await #expect(throws: QEMUStartError.self) {
      _ = try await IncomingQEMU.start(
        launch(program, ["-device", "no-such-device"]), id: "m-2",
        configuration: configuration(program))
    }
    #expect(error?.end == .exited(1))
    #expect(error?.lastWords.contains("no-such-device") == true)
    #expect(!FileManager.default.fileExists(atPath: folder + "/run/vm-m-2"))
  }

  @Test func aKilledQEMUIsNoticed() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let program = QEMUProgram.installed[0]
    let qemu = try await IncomingQEMU.start(
      launch(program), id: "m-3", configuration: configuration(program))
    async let end = qemu.waitForExit(timeoutMs: 60_000)
    try qemu.identity.signal(SIGKILL)
    #expect(try await end == .signalled(SIGKILL))
    await qemu.monitor.closed()
    await qemu.discard()
  }

  @Test func aMonitorThatAnotherVMServesIsNotTaken() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let program = QEMUProgram.installed[0]
    let running = try await RunningQEMU(program)
    let path = try #require(
      try await VMDiscovery.scan().first { $0.pid == running.pid }?.monitorPath)
    let error = await #expect(throws: LaunchRefusal.self) {
      _ = try await IncomingQEMU.start(
        launch(program, ["-qmp", "unix:\(path),server=on,wait=off"]), id: "m-4",
        configuration: configuration(program))
    }
    #expect(error?.cause.contains("pid \(running.pid)") == true)
  }
}
