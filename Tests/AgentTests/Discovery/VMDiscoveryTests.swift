import Foundation
import HostIO
import Testing

@testable import Agent

@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct VMDiscoveryTests {
  @Test func findsARunningQEMU() async throws {
    let name = "falcon-\(UUID().uuidString.prefix(8))"
    let qemu = try await RunningQEMU(QEMUProgram.installed[0], ["-name", "guest=\(name)", "-S"])
    let found = try #require(try await VMDiscovery.scan().first { $0.name == name })
    #expect(found.pid == qemu.pid && found.identity.isAlive)
    #expect(found.program == QEMUProgram.installed[0].path)
    #expect(found.monitorPath?.hasSuffix("/qmp.sock") == true)
    #expect(found.arguments.contains("-nodefaults"))
    let asked = await VMDiscovery.statuses(of: [found], timeoutMs: 60_000)
    #expect(asked.first?.status == "prelaunch")
    #expect(asked.first?.qemuVersion != nil && asked.first?.ramBytes == RunningQEMU.ramBytes)
    let resolved = try await VMResolver.resolve(name)
    #expect(resolved.process == found)
    // A busy QEMU may take a moment to let go of the client before.
    var answered: String?
    for _ in 0..<60 where answered == nil {
      answered = await VMResolver.nameFromMonitor(qemu.monitorPath)
    }
    #expect(answered == name)
    #expect(await VMResolver.nameFromMonitor("/nonexistent") == nil)
    qemu.kill()
    #expect(!found.identity.isAlive)
    await #expect(throws: VMResolutionError.self) { try await VMResolver.resolve(name) }
  }

  @Test func ofTwoWithOneNameTheOneThatRunsIsMeant() async throws {
    let name = "twin-\(UUID().uuidString.prefix(8))"
    let program = QEMUProgram.installed[0]
    let source = try await RunningQEMU(program, ["-name", name])
    let target = try await RunningQEMU(program, ["-name", name, "-S", "-incoming", "defer"])
    // One that has just been started may take longer to answer than whoever resolves its name waits.
    var found: ResolvedVM?
    while found == nil { found = try? await VMResolver.resolve(name) }
    #expect(found?.process?.pid == source.pid)
    let second = try await RunningQEMU(program, ["-name", name])
    await #expect(throws: VMResolutionError.self) { try await VMResolver.resolve(name) }
    withExtendedLifetime((target, second)) {}
  }
}
