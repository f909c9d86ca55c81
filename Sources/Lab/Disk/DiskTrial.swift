import Agent
import Base
import FoundationEssentials
import HostIO

/// One move of fresh disks, all of them at once, while clients use them.
struct DiskTrial: Sendable {
  /// How long clients go on after both sides are the same, in milliseconds.
  static let aftermathMs: UInt64 = 500

  let method: DiskMethod
  let disk: MatrixDisk
  let label: String
  let options: LabOptions
  let hosts: HostPair
  let folder: RunFolder
  let observer: any LabObserver

  /// A trial of each disk.
  func run() async throws -> [Trial] {
    let stages = (0..<disk.count).map { number in
      DiskStage(
        disk: disk, method: method, number: number, label: label, hosts: hosts, folder: folder,
        options: options)
    }
    let version = try await Self.rivalVersion()
    await observer.note(
      "\(method.rawValue): \(ByteCount(disk.byteCount))"
        + (disk.count > 1 ? ", \(disk.count) disks at once" : ""))
    var running: [RunningDisk] = []
    var backups: DiskBackups?
    var others: CompetingTraffic?
    let result: Result<[Trial], any Error>
    do {
      for stage in stages { try await stage.makeImages() }
      let supply = try await DiskBackups.start(stages)
      backups = supply
      for stage in stages {
        running.append(try await RunningDisk.start(stage, backups: supply.sockets))
      }
      others = try await CompetingTraffic.start(hosts, options.competingRate)
      let calmFromUs = MonotonicClock.nowUs
      try await Task.sleep(for: .milliseconds(options.warmUpMs))
      result = .success(try await measure(running, others, calmFromUs: calmFromUs))
    } catch {
      result = .failure(error)
    }
    others?.stop()
    for disk in running { await disk.end() }
    await backups?.end()
    for stage in stages { await removeFiles(stage) }
    return try result.get().map { trial in
      var trial = trial
      trial.record.qemu = .init(source: version, destination: version)
      return trial
    }
  }

  private func measure(
    _ disks: [RunningDisk], _ others: CompetingTraffic?, calmFromUs: UInt64
  ) async throws -> [Trial] {
    let meter = try await WireMeter.start(hosts, others)
    let cost = DiskCostMeter(disks)
    let startSeconds = MonotonicClock.wallSeconds
    let startUs = MonotonicClock.nowUs
    let moves = try await move(disks)
    var successors: [DiskProcess?] = []
    for disk in disks { successors.append(await disk.mover.successor) }
    let spent = cost.read(successors: successors)
    let wire = try await meter.read()
    await observer.note("\(method.rawValue): comparing what arrived")
    try await Task.sleep(for: .milliseconds(Self.aftermathMs))
    for disk in disks { await disk.client.stop() }
    var trials: [Trial] = []
    for (disk, moved) in zip(disks, moves) {
      var trial = trial(disk, moved, calmFromUs: calmFromUs, startUs: startUs)
      trial.record.startedAt = startSeconds
      trial.competingBytesPerSecond = wire.competingBytesPerSecond
      if moved.reason == nil {
        try await disk.mover.finish()
        let differing = try await disk.differingPages()
        trial.record.audit.pagesCompared = disk.stage.disk.byteCount / UInt64(Page.size)
        trial.record.audit.pagesDiffering = differing
        if differing > 0 {
          let what = method.isStill ? "disk" : "copy"
          trial.damage.append("\(differing) pages of the \(what) are not what was written last")
        }
      }
      trials.append(trial)
    }
    let endUs = moves.map(\.endUs).max() ?? startUs
    Together.share(&trials, lengthMs: (endUs - startUs) / 1000, wireBytes: wire.bytes)
    trials[0].cost = spent
    return trials
  }

  /// Moves all at once; when one can't be moved at all, the others are waited for.
  private func move(_ disks: [RunningDisk]) async throws -> [MovedDisk] {
    typealias Ended = (index: Int, result: Result<MovedDisk, any Error>)
    let ended = await withTaskGroup(of: Ended.self) { group in
      for (index, disk) in disks.enumerated() {
        group.addTask {
          do { return (index, .success(try await disk.mover.move(disk.client))) } catch {
            return (index, .failure(error))
          }
        }
      }
      return await group.reduce(into: [Ended]()) { $0.append($1) }
    }
    return try ended.sorted { $0.index < $1.index }.map { try $0.result.get() }
  }

  private func trial(
    _ running: RunningDisk, _ moved: MovedDisk, calmFromUs: UInt64, startUs: UInt64
  ) -> Trial {
    var record = MigrationRecord(
      outcome: moved.reason == nil ? .completed : .failed, reason: moved.reason)
    record.method = LabMethod.disk(method).kind
    record.strategy = method.rawValue
    record.scenario = options.scenario
    record.vm = disk.name + (disk.count > 1 ? "-\(running.stage.number + 1)" : "")
    if moved.reason != nil { record.isGuestSafe = true }
    if !method.isStill {
      record.totalMs = (moved.endUs - startUs) / 1000
      record.disk.movedBytes = disk.byteCount
    }
    record.disk.bytesReadAtSource = moved.readBytes
    record.disk.wireBytes = moved.wireBytes
    let report = running.client.report
    var clients = StoreClient.Report()
    clients.completionsUs = report.requests.map(\.endUs)
    record.clientGapMs = clients.longestGapMs(fromUs: startUs, toUs: moved.endUs)
    var trial = Trial(record: record)
    trial.operationsTimeline = clients.timeline(
      fromUs: startUs, toUs: moved.endUs + Self.aftermathMs * 1000,
      bucketMs: Trial.operationsBucketMs)
    var measures = DiskMeasures(disk)
    measures.before = Latency(report.requests, fromUs: calmFromUs, toUs: startUs)
    measures.during = Latency(report.requests, fromUs: startUs, toUs: moved.endUs)
    measures.phases = moved.originalUs.map { betweenUs in
      .init(
        original: Latency(report.requests, fromUs: startUs, toUs: betweenUs),
        surrogate: Latency(report.requests, fromUs: betweenUs, toUs: moved.endUs))
    }
    measures.wrongReads = report.wrongReads
    (measures.rounds, measures.backupBytes) = (moved.rounds, moved.backupBytes)
    measures.skippedBytes = moved.skippedBytes
    measures.pull = moved.served.map { .init($0, startUs: startUs) }
    trial.operationsPerSecond = measures.during?.perSecond
    trial.disk = measures
    if let failure = report.failure { trial.damage.append("a request failed: \(failure)") }
    if report.wrongReads > 0 {
      trial.damage.append("\(report.wrongReads) reads gave something else than was written last")
    }
    return trial
  }

  /// Images take space that the next trial needs.
  private func removeFiles(_ stage: DiskStage) async {
    if stage.disk.isLimited { await SmallDisk(path: stage.device).unmount() }
    let (folder, prefix) = (folder.path, "\(stage.label)-\(stage.number)-")
    _ = try? await WorkerThread.run("disk-files") {
      for name in ProcFile.names(in: folder) where name.hasPrefix(prefix) {
        try? FileManager.default.removeItem(atPath: "\(folder)/\(name)")
      }
    }
  }

  private static func rivalVersion() async throws -> String? {
    do {
      return QEMUProgram.version(in: try await Command.run("qemu-storage-daemon", ["--version"]))
    } catch {
      throw LabError(
        "missing: qemu-storage-daemon (Debian packages qemu-system-common and qemu-utils)")
    }
  }
}
