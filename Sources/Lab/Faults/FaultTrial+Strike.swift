import Agent
import Base
import Glibc
import HostIO

// Breaks things, and puts in order again what is to be whole afterwards.
extension FaultTrial {
  /// What is left of a slow link's rate: 1 part of so many.
  static let slowDivisor: UInt64 = 50
  /// How far a clock jumps, in seconds: beyond all dates of the lab's certificates.
  static let clockStepSeconds: Int64 = 30 * 86_400
  /// A journal that takes no more takes up to this many bytes, so that a record may still fit, or half
  /// of one.
  static let tornBytes: UInt64 = 64
  /// Beyond its `drainTimeout`, for an agent that was told to end.
  static let endingMs: UInt64 = 40_000

  /// Breaks what is to be broken; returns when it is whole again, or dead for good.
  func strike(_ agents: Agents) async throws {
    switch plan.victim {
    case .sourceAgent, .destinationAgent: agent(agents)?.process.send(signal: SIGKILL)
    case .sourceAgentUpgraded, .destinationAgentUpgraded:
      agent(agents)?.process.send(signal: SIGTERM)
    case .sourceQEMU: session.source.process.send(signal: SIGKILL)
    case .destinationQEMU:
      // In `prepare` it may not have been started yet.
      let startMs = MonotonicClock.nowMs
      while Leftovers.processes(naming: mark).isEmpty, MonotonicClock.nowMs - startMs < 3000 {
        try await Task.sleep(for: .milliseconds(5))
      }
      for pid in Leftovers.processes(naming: mark) { _ = Glibc.kill(pid, SIGKILL) }
    case .sourceAgentFrozen, .destinationAgentFrozen:
      agent(agents)?.process.send(signal: SIGSTOP)
      await last()
      agent(agents)?.process.send(signal: SIGCONT)
    case .link:
      try await session.hosts.setLink(up: false)
      await last()
      try await session.hosts.setLink(up: true)
    case .slowPeer:
      try await session.hosts.slowLink(divisor: Self.slowDivisor)
      await last()
      try await session.hosts.slowLink(divisor: 1)
    case .connections: try await session.hosts.resetConnections()
    case .sourceDisk, .destinationDisk: for disk in fullDisks { try await disk.fill() }
    case .sourceJournal, .destinationJournal:
      guard let pid = agent(agents)?.process.pid else { return }
      let bytes = journalBytes + killAfterMs % Self.tornBytes
      try await WriteLimit.set([pid], bytes: bytes)
      await last()
      // A QEMU that was started meanwhile has inherited the limit.
      try await WriteLimit.set([pid] + Leftovers.processes(naming: mark), bytes: nil)
    case .sourceClock, .destinationClock:
      for step in [Self.clockStepSeconds, -Self.clockStepSeconds, 0] {
        try stepClock(by: step)
        if step != 0 { await last(partOf: 2) }
      }
    }
  }

  /// Starts an agent in the place of one that died or was told to end.
  func replace(_ agents: inout Agents) async throws {
    guard let side = plan.victim.side else { return }
    if plan.victim.isAgent {
      try await Task.sleep(for: .milliseconds(Self.restartMs))
      agents[side] = try await LabAgent.start(side, session: session)
    } else if plan.victim.isUpgraded {
      let old = agents[side].process
      let deadlineMs = MonotonicClock.nowMs + plan.lastsMs + Self.endingMs
      while old.exit == nil, MonotonicClock.nowMs < deadlineMs {
        try await Task.sleep(for: .milliseconds(20))
      }
      guard old.exit != nil else {
        throw LabError("the agent does not end: \(agents[side].lastWords)")
      }
      agents[side] = try await LabAgent.start(side, session: session, program: try await upgrade())
    }
  }

  /// Another copy of the program, as an upgrade leaves it in the place of the old one.
  private func upgrade() async throws -> String {
    let path = session.folder.file("godwit-upgraded")
    if !SmallFile.isExecutable(path) {
      try await Command.run("cp", ["--", try LabAgent.program(session.options), path])
    }
    return path
  }

  private func agent(_ agents: Agents) -> LabAgent? { plan.victim.side.map { agents[$0] } }

  /// As long as the fault lasts; also when the run is called off, it is put in order afterwards.
  private func last(partOf parts: UInt64 = 1) async {
    try? await Task.sleep(for: .milliseconds(plan.lastsMs / parts))
  }

  /// How long the journal of the side's migration is by now.
  private var journalBytes: UInt64 {
    plan.victim.side.map { WriteLimit.journalBytes($0, session) } ?? 0
  }

  func clockFile(_ side: HostPair.Side) -> String { session.file("clock-\(side.rawValue)") }

  private func stepClock(by seconds: Int64) throws {
    guard let side = plan.victim.side else { return }
    // Replaced in one step: the agent never reads half a number.
    let path = clockFile(side)
    try SmallFile.write(Array("\(seconds)\n".utf8), to: path + ".new")
    guard unsafe rename(path + ".new", path) == 0 else { throw LabError("cannot write \(path)") }
  }

  /// The disks that will be full, each on a side's state folder.
  private var fullDisks: [SmallDisk] {
    guard plan.victim.isDisk, let side = plan.victim.side else { return [] }
    return [SmallDisk(path: LabAgent.folder(side, session) + "/state")]
  }

  func mountDisks() async throws -> [SmallDisk] {
    for disk in fullDisks {
      if let side = plan.victim.side { try LabAgent.makeFolders(side, session) }
      try await disk.mount()
    }
    return fullDisks
  }
}
