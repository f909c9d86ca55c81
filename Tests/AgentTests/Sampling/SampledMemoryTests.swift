import Base
import HostIO
import QMP
import Strategy
import Testing

@testable import Agent

/// The memory of real QEMUs, seen from outside: as QEMU's own, as shared memory, and by QEMU itself.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct SampledMemoryTests {
  private static let shared = [
    "-machine", "pc,memory-backend=mem0", "-object",
    "memory-backend-memfd,id=mem0,size=65664K,share=on",
  ]

  @Test(arguments: QEMUProgram.installed, [GuestSample.Source.shared, .process])
  func allOfRAMIsSeen(program: QEMUProgram, source: GuestSample.Source) async throws {
    let qemu = try await RunningQEMU(program, ["-S"] + (source == .shared ? Self.shared : []))
    let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
    let process = try #require(ProcessIdentity(pid: qemu.pid))
    let residentBefore = try resident(qemu.pid)
    let memory = try #require(try await SampledMemory.open(monitor.client, process))
    #expect(memory.source == source)
    #expect(memory.ramPages >= RunningQEMU.ramBytes >> 12)
    #expect(memory.unseenPages < memory.ramPages / 20)
    let sampler = GuestSampler(memory, seed: 1)
    let result = try await sampler.run(.init(intervalMs: 20, intervals: 4, pagesMax: 1 << 20))
    let sample = GuestSample(result, of: memory, seed: 1, threads: 3)
    // Nothing runs: nothing changes, and nearly all of RAM was never touched.
    #expect(sample.dirtyCurve.count == 3)
    #expect(sample.dirtyCurve.allSatisfy { $0.dirtied.pages == 0 })
    #expect(try #require(sample.zeroPages).pages > sample.ramPages * 9 / 10)
    // Looking at it has not made memory out of what was never touched.
    #expect(try resident(qemu.pid) < residentBefore + 8 << 20)
    await monitor.close()
  }

  @Test(arguments: QEMUProgram.installed.prefix(1))
  func whatIsWrittenIsSeen(program: QEMUProgram) async throws {
    let qemu = try await RunningQEMU(program, ["-S"] + Self.shared)
    let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
    let process = try #require(ProcessIdentity(pid: qemu.pid))
    let memory = try #require(try await SampledMemory.open(monitor.client, process))
    let backend = try #require(
      try await SharedMemoryBackend.locate(monitor.client, pid: qemu.pid).first)
    let file = try SharedFile(
      path: backend.path, offset: backend.offset, length: backend.length, writable: true)
    var random = SplitMix64(seed: 1)
    let sample = PageSample(of: memory.ramPages, count: Int(memory.ramPages), using: &random)
    let before = try memory.marks(of: sample)
    let page = PageBuffer.zeroed(byteCount: Page.size)
    page.store([7].span.bytes, at: 100)
    for number in [0, 300, 4000] {
      try file.write(UnsafeRawBufferPointer(page.part(0, Page.size)), at: UInt64(number) << 12)
    }
    let after = try memory.marks(of: sample)
    #expect(zip(before, after).count { $0 != $1 } == 3)
    #expect(after.count { $0 != 0 } == before.count { $0 != 0 } + 3)
    await monitor.close()
  }

  @Test(arguments: QEMUProgram.installed)
  func qemuSaysItWhereNobodyElseCan(program: QEMUProgram) async throws {
    let qemu = try await RunningQEMU(program, ["-m", "192M"])
    let monitor = try await Monitor.connect(path: qemu.monitorPath, timeoutMs: 60_000)
    let sample = try await QEMUSampler(client: monitor.client, windows: [1]).run()
    #expect(sample.source == .qemu && sample.zeroPages == nil && sample.seed == nil)
    #expect(sample.dirtyCurve.map(\.windowMs) == [1000])
    #expect(sample.ramPages - sample.unseenPages == 192 << 8)
    let line = try JSONLine.encode(sample)
    #expect(line.contains(#""zeroPages":null"#) && line.contains(#""cpuMs":null"#))
    await monitor.close()
  }

  private func resident(_ pid: Int32) throws -> UInt64 {
    let status = try SmallFile.read("/proc/\(pid)/status")
    let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") })
    return try #require(UInt64(line.filter(\.isNumber))) << 10
  }
}
