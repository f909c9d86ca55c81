import Agent
import Base
import HostIO

extension LabRun {
  /// A guest of a trial, how it is moved, and who watches that.
  private struct Member: Sendable {
    let session: GuestSession
    let mover: any Mover
    let keeper: SampleKeeper
    var forecast: MigrationRecord.Forecast?
  }

  /// One migration of fresh guests, all of them at once; a trial of each.
  static func trials(
    _ method: LabMethod, label: String, options: LabOptions,
    commandLine: GuestCommandLine, hosts: HostPair, folder: RunFolder, observer: any LabObserver
  ) async throws -> [Trial] {
    let returns = options.returnAfterMs != nil
    guard !options.movesRootDisk || method.kind == "godwit" else {
      throw LabError("a root disk moves with Godwit alone")
    }
    guard !(options.movesDisk || options.movesRootDisk) || !returns else {
      throw LabError("a guest that returns shares its disk with both hosts")
    }
    guard !options.servesDisk || options.movesDisk else {
      throw LabError("a disk is behind a server only where it moves")
    }
    guard !returns || commandLine.source.path == commandLine.destination.path else {
      throw LabError("a return needs the same QEMU on both sides")
    }
    guard options.guestCount == 1 || (!returns && options.guest.server == nil) else {
      throw LabError("guests that return, or have clients, are moved alone")
    }
    let home: HostPair.Side = returns && method.kind == "godwit" ? .destination : .source
    var sessions: [GuestSession] = []
    var agents: AgentPair?
    var others: CompetingTraffic?
    let result: Result<[Trial], any Error>
    do {
      for number in 0..<options.guestCount {
        let which = options.guestCount > 1 ? " \(number + 1) of \(options.guestCount)" : ""
        await observer.note("\(method.name): booting a fresh guest\(which)")
        var (options, commandLine) = (options, commandLine)
        if method.kind != "godwit" { options.servesDisk = false }
        if number > 0 { options.guest.name += "-\(number + 1)" }
        commandLine.specification = options.guest
        sessions.append(
          try await GuestSession.start(
            options: options, commandLine: commandLine, hosts: hosts, folder: folder,
            label: number == 0 ? label : "\(label)-\(number + 1)", number: number, home: home))
      }
      var members: [Member]
      switch method {
      case .rival(let rival, _):
        members = sessions.map { session in
          let keeper = SampleKeeper(observer)
          let mover = QEMUMover(rival: rival, session: session, observer: keeper)
          return Member(session: session, mover: mover, keeper: keeper)
        }
      case .disk(let method, _):
        throw LabError("\(method.rawValue) moves a disk, not a guest")
      case .strategy(let strategy, _):
        let pair = try await AgentPair.start(sessions, observer: observer)
        agents = pair
        members = sessions.map { session in
          let keeper = SampleKeeper(observer)
          let mover = GodwitMover(
            strategy: strategy, session: session, agents: pair, observer: keeper)
          return Member(session: session, mover: mover, keeper: keeper)
        }
      }
      if returns {
        try await Task.sleep(for: .milliseconds(options.warmUpMs))
        if home == .destination { await observer.note("\(method.name): the way out") }
        for member in members { try await member.mover.prepare() }
      }
      // A forecast has to see the link as the move will find it; QEMU's guests warm up beside the same traffic.
      others = try await CompetingTraffic.start(hosts, options.competingRate)
      // One after the other: an agent looks at a few guests at a time only.
      for index in members.indices {
        members[index].forecast = try await members[index].mover.forecast()
      }
      let calmFromUs = MonotonicClock.nowUs
      try await Task.sleep(for: .milliseconds(options.returnAfterMs ?? options.warmUpMs))
      result = .success(
        try await measure(
          method, members, agents, others, calmFromUs: calmFromUs, observer: observer))
    } catch {
      result = .failure(error)
    }
    others?.stop()
    await agents?.end()
    for session in sessions { await session.end() }
    return try result.get()
  }

  /// Moves the guests and looks at them from outside meanwhile.
  private static func measure(
    _ method: LabMethod, _ members: [Member], _ agents: AgentPair?, _ others: CompetingTraffic?,
    calmFromUs: UInt64, observer: any LabObserver
  ) async throws -> [Trial] {
    guard let hosts = members.first?.session.hosts else { return [] }
    let wireMeter = try await WireMeter.start(hosts, others)
    let meter = CostMeter(sources: members.compactMap(\.mover.sourceProcess), agents: agents)
    let startSeconds = MonotonicClock.wallSeconds
    let memory = Task { await meter.watchMemory() }
    defer { memory.cancel() }
    let moves = try await move(members)
    memory.cancel()
    let peaks = await memory.value
    let endUs = moves.map(\.endUs).max() ?? 0
    let cost = meter.read(
      destinations: moves.compactMap(\.move.destinationProcess), memory: peaks)
    let result: Result<[Trial], any Error>
    do {
      let wire = try await wireMeter.read()
      others?.stop()
      await observer.note("\(method.name): checking the guest's memory")
      try await Task.sleep(for: .milliseconds(aftermathMs))
      var trials: [Trial] = []
      for (member, (move, ownEndUs)) in zip(members, moves) {
        let (session, moved) = (member.session, move.record.outcome == .completed)
        let (runsBefore, diskScansBefore) = session.serial.look {
          ($0.last?.beat.kernelRuns ?? 0, $0.last?.beat.diskScans ?? 0)
        }
        try await waitForScans(session, moved: moved)
        var trial = Trial(record: move.record)
        trial.record.scenario = session.options.scenario
        trial.record.startedAt = startSeconds
        trial.record.vm = session.options.guest.name
        trial.record.qemu = .init(
          source: session.commandLine.source.version,
          destination: session.commandLine.destination.version)
        trial.samples = await member.keeper.samples
        observe(
          &trial, session, fromUs: move.startUs, untilUs: endUs + aftermathMs * 1000, moved: moved)
        measureWork(
          &trial, session,
          .init(
            calmFromUs: calmFromUs, startUs: move.startUs, endUs: ownEndUs,
            untilUs: MonotonicClock.nowUs), moved: moved)
        if session.options.guest.workload.kernel != nil {
          let runs = session.serial.look { $0.last?.beat.kernelRuns ?? 0 }
          let after = runs - min(runsBefore, runs)
          trial.kernelRunsAfter = after
          // One that ended none before may just be slow.
          if moved, after == 0, runsBefore > 0 {
            trial.damage.append("the guest's kernel ended no run after the move")
          }
        }
        if session.options.guest.workload.disk?.isScanned == true {
          let scans = session.serial.look { $0.last?.beat.diskScans ?? 0 }
          // The first had begun before.
          if scans < diskScansBefore + 2 {
            trial.damage.append("the guest did not finish checking its disk")
          }
        }
        trial.competingBytesPerSecond = wire.competingBytesPerSecond
        if move.isLeftBehind { trial.damage.append("a QEMU was left behind at the destination") }
        trials.append(trial)
      }
      let startUs = moves.map(\.move.startUs).min() ?? 0
      Together.share(&trials, lengthMs: (endUs - min(startUs, endUs)) / 1000, wireBytes: wire.bytes)
      trials[0].cost = cost
      result = .success(trials)
    } catch {
      result = .failure(error)
    }
    for (move, _) in moves { await move.end() }
    return try result.get()
  }

  /// Moves all at once. When one can't be moved at all, the others are waited for, and ended.
  private static func move(
    _ members: [Member]
  ) async throws -> [(move: Move, endUs: UInt64)] {
    typealias Ended = (index: Int, result: Result<Move, any Error>, endUs: UInt64)
    var ended = await withTaskGroup(of: Ended.self) { group in
      for (index, member) in members.enumerated() {
        group.addTask {
          do {
            let move = try await member.mover.move(member.forecast)
            return (index, .success(move), MonotonicClock.nowUs)
          } catch {
            return (index, .failure(error), MonotonicClock.nowUs)
          }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    ended.sort { $0.index < $1.index }
    do {
      return try ended.map { (try $0.result.get(), $0.endUs) }
    } catch {
      for case .success(let move) in ended.map(\.result) { await move.end() }
      throw error
    }
  }

  /// How fast the guest worked before, during and after.
  private static func measureWork(
    _ trial: inout Trial, _ session: GuestSession, _ window: GuestThroughput.Window, moved: Bool
  ) {
    trial.dirtyBytesPerSecond = session.serial.look {
      WorkCurve($0.entries.map { ($0.atUs, $0.beat.dirtiedPages) })
        .rate(fromUs: window.calmFromUs, toUs: window.startUs)
        .map { Ratio.scale($0, 4096, over: 1) }
    }
    trial.throughput = session.serial.look { GuestThroughput($0, window, moved: moved) }
  }

  /// Waits for two further full scans where the guest runs now, the first may have begun before, of memory and, where
  /// it is scanned, of the disk, and for the end of a kernel's run, which has most likely begun before.
  private static func waitForScans(_ session: GuestSession, moved: Bool) async throws {
    let serial = session.serial
    let workload = session.options.guest.workload
    let runs: UInt64 = workload.kernel == nil ? 0 : 1
    let diskScans: UInt64 = workload.disk?.isScanned == true ? 2 : 0
    func beat() -> (scans: UInt64, runs: UInt64, diskScans: UInt64) {
      serial.look { log in
        guard let beat = log.last?.beat else { return (0, 0, 0) }
        return (beat.verifiedScans, beat.kernelRuns, beat.diskScans)
      }
    }
    let before = beat()
    let startMs = MonotonicClock.nowMs
    while beat().scans < before.scans + 2 || beat().runs < before.runs + runs
      || beat().diskScans < before.diskScans + diskScans,
      MonotonicClock.nowMs - startMs < scanTimeoutMs
    {
      // A silent guest will not scan: what is heard tells it soon enough.
      let silenceUs = MonotonicClock.nowUs - (serial.look { $0.last?.atUs } ?? 0)
      if silenceUs > 10_000_000 { return }
      try await Task.sleep(for: .milliseconds(50))
    }
  }
}
