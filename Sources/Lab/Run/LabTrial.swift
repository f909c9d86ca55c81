import Agent
import Base
import HostIO

extension LabRun {
  /// One migration of a fresh guest.
  static func trial(
    _ method: LabMethod, label: String, options: LabOptions,
    commandLine: GuestCommandLine, hosts: HostPair, folder: RunFolder, observer: any LabObserver
  ) async throws -> Trial {
    await observer.note("\(method.name): booting a fresh guest")
    let returns = options.returnAfterMs != nil
    guard !returns || commandLine.source.path == commandLine.destination.path else {
      throw LabError("a return needs the same QEMU on both sides")
    }
    let home: HostPair.Side = returns && method.kind == "godwit" ? .destination : .source
    let session = try await GuestSession.start(
      options: options, commandLine: commandLine, hosts: hosts, folder: folder, label: label,
      home: home)
    do {
      let keeper = SampleKeeper(observer)
      var mover: any Mover =
        switch method {
        case .rival(let rival, _): QEMUMover(rival: rival, session: session, observer: keeper)
        case .strategy(let strategy, _):
          GodwitMover(strategy: strategy, session: session, observer: keeper)
        }
      if returns {
        try await Task.sleep(for: .milliseconds(options.warmUpMs))
        if home == .destination { await observer.note("\(method.name): the way out") }
        try await mover.prepare()
      }
      let calmFromUs = MonotonicClock.nowUs
      try await Task.sleep(for: .milliseconds(options.returnAfterMs ?? options.warmUpMs))
      let result = try await measure(
        method, mover, session: session, calmFromUs: calmFromUs, observer: keeper)
      await session.end()
      return result
    } catch {
      await session.end()
      throw error
    }
  }

  /// Moves the guest and looks at it from outside meanwhile.
  private static func measure(
    _ method: LabMethod, _ mover: any Mover, session: GuestSession, calmFromUs: UInt64,
    observer: SampleKeeper
  ) async throws -> Trial {
    let hosts = session.hosts
    let wireBefore = try await hosts.wireBytes()
    let startSeconds = MonotonicClock.wallSeconds
    let move = try await mover.move()
    do {
      let endUs = MonotonicClock.nowUs
      let wireAfter = try await hosts.wireBytes()
      await observer.note("\(method.name): checking the guest's memory")
      try await Task.sleep(for: .milliseconds(aftermathMs))
      let moved = move.record.outcome == .completed
      try await waitForScans(session.serial, moved: moved)
      let untilUs = endUs + aftermathMs * 1000
      var trial = Trial(record: move.record)
      trial.record.scenario = session.options.scenario
      trial.record.startedAt = startSeconds
      trial.record.vm = session.options.guest.name
      trial.record.qemu = .init(
        source: session.commandLine.source.version,
        destination: session.commandLine.destination.version)
      if let wireBefore, let wireAfter { trial.record.wireBytes = wireAfter - wireBefore }
      trial.samples = await observer.samples
      observe(&trial, session, fromUs: move.startUs, untilUs: untilUs, moved: moved)
      let window = GuestThroughput.Window(
        calmFromUs: calmFromUs, startUs: move.startUs, endUs: endUs, untilUs: MonotonicClock.nowUs)
      trial.dirtyBytesPerSecond = session.serial.look {
        WorkCurve($0.entries.map { ($0.atUs, $0.beat.dirtiedPages) })
          .rate(fromUs: window.calmFromUs, toUs: window.startUs)
          .map { Ratio.scale($0, 4096, over: 1) }
      }
      trial.throughput = session.serial.look { GuestThroughput($0, window, moved: moved) }
      if move.isLeftBehind {
        trial.damage.append("a QEMU was left behind at the destination")
      }
      await move.end()
      return trial
    } catch {
      await move.end()
      throw error
    }
  }

  /// Waits for two further full scans where the guest runs now: the first may have begun before.
  private static func waitForScans(_ serial: SerialCapture, moved: Bool) async throws {
    func scans() -> UInt64 { serial.look { $0.last?.beat.verifiedScans ?? 0 } }
    let before = scans()
    let startMs = MonotonicClock.nowMs
    while scans() < before + 2, MonotonicClock.nowMs - startMs < scanTimeoutMs {
      // A silent guest will not scan: what is heard tells it soon enough.
      let silenceUs = MonotonicClock.nowUs - (serial.look { $0.last?.atUs } ?? 0)
      if silenceUs > 10_000_000 { return }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  /// Fills in what was seen from outside, and judges.
  private static func observe(
    _ trial: inout Trial, _ session: GuestSession, fromUs: UInt64, untilUs: UInt64, moved: Bool
  ) {
    let log = session.serial.log
    trial.record.guest = .init(heartbeats: UInt64(log.entries.count), errors: log.errors)
    let here: HeartbeatLog.Side = moved ? .destination : .source
    let after = log.entries.filter { $0.side == here && $0.atUs > untilUs - aftermathMs * 1000 }
    if let first = after.first, let last = after.last {
      trial.scansAfter = last.beat.verifiedScans - first.beat.verifiedScans
    }
    if moved { trial.heartbeatGapMs = log.handoverMs }
    if let report = session.client?.report() {
      trial.brokenConnections = report.brokenConnections
      trial.record.clientGapMs = report.longestGapMs(fromUs: fromUs, toUs: untilUs)
      let count = report.timeline(fromUs: fromUs, toUs: untilUs).reduce(0, +)
      trial.operationsPerSecond = Ratio.scale(
        count * UInt64(session.options.clients.batch), 1_000_000, over: max(untilUs - fromUs, 1))
      // Without a bridge the guest's address changes, so that connections cannot survive.
      if session.hosts.kind == .namespaces, report.brokenConnections > 0 {
        trial.damage.append(
          "\(report.brokenConnections) client connections broke (\(report.firstFailure ?? "?"))")
      }
      if report.wrongValues > 0 { trial.damage.append("\(report.wrongValues) wrong values") }
    }
    if after.isEmpty {
      trial.damage.append("the guest's heart stopped\(lastWords(log))")
    } else if (trial.scansAfter ?? 0) == 0 {
      trial.damage.append("the guest did not finish checking its memory")
    }
    if log.errors > 0 {
      let first = log.otherLines.first { $0.hasPrefix("ERR") } ?? "?"
      trial.damage.append("\(log.errors) errors in the guest's memory (first: \(first))")
    }
    if log.sequenceBreaks > 0 {
      trial.damage.append("\(log.sequenceBreaks) heartbeats lost or repeated")
    }
    if let differing = trial.record.audit.pagesDiffering, differing > 0 {
      trial.damage.append("\(differing) pages differ between source and destination")
    }
  }

  private static func lastWords(_ log: HeartbeatLog) -> String {
    log.otherLines.last.map { "; it said last: \($0)" } ?? ""
  }
}

/// A way to move a session's guest.
protocol Mover: Sendable {
  /// What has to happen, before the move that counts, for it to be a return.
  mutating func prepare() async throws
  func move() async throws -> Move
}

/// A migration that ended, and what stops the processes that it left running.
struct Move: Sendable {
  let record: MigrationRecord
  /// When it was asked for; agents and the destination's QEMU were there already where that is how
  /// the method works.
  let startUs: UInt64
  /// A migration that failed left a QEMU at the destination.
  var isLeftBehind = false
  let end: @Sendable () async -> Void
}

struct QEMUMover: Mover {
  let rival: Rival
  let session: GuestSession
  let observer: any LabObserver

  /// QEMU remembers nothing.
  func prepare() async throws {}

  func move() async throws -> Move {
    let migration = QEMUMigration(rival: rival, session: session, observer: observer)
    let (record, startUs, destination) = try await migration.run()
    return Move(record: record, startUs: startUs) { await destination.process.terminate() }
  }
}
