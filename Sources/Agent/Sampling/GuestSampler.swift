import Base
import HostIO
import QMP
import Strategy

/// Looks at a sample of a running guest's pages at regular instants. It takes at most a fifth of one core:
/// where a look would take longer, fewer pages are looked at.
struct GuestSampler: Sendable {
  /// Pages looked at, at most: 64 MiB of reads a look.
  static let pagesMax = 16_384
  /// Part of the time between two looks that one may take.
  static let budgetDivisor: UInt64 = 5

  /// Before a migration with a deadline: only that makes use of what the guest dirties.
  private static let boundSchedule = Schedule(intervalMs: 125, intervals: 4, pagesMax: 8192)
  /// Before any other: the share of zeros is then known within three points, 19 times of 20.
  private static let contentPages = 1024

  let memory: SampledMemory
  let seed: UInt64
  /// Set when nobody waits for the result any more.
  private let isOver = Guarded(false)

  init(_ memory: SampledMemory, seed: UInt64) { (self.memory, self.seed) = (memory, seed) }

  /// How pages are looked at.
  struct Schedule: Sendable {
    /// Between the beginnings of two looks, in milliseconds, at least 1.
    var intervalMs: UInt64
    /// At least 1.
    var intervals: Int
    var pagesMax = GuestSampler.pagesMax
    /// What pages hold that changed is kept in the middle, to see what they cost when they are sent again.
    var keepsContents = false
  }

  struct Result: Sendable {
    var history: ChangeHistory
    var durationMs, cpuMs: UInt64
    /// Of a part of the sample, after the last look.
    var contents: SampledContents
    /// Nil: nobody wanted to know, or too few pages changed.
    var rewritten: RewrittenPages?
  }

  /// Looks, on a thread of its own; throws `CancellationError` when the task is cancelled.
  func run(_ schedule: Schedule) async throws -> Result {
    try await whileWanted {
      let (beganMs, beganCPU) = (MonotonicClock.nowMs, MonotonicClock.threadUs)
      let sample = try affordable(schedule)
      var history = ChangeHistory(sample)
      var kept: RewrittenPages.Kept?
      try look(at: sample, schedule) { marks, atMs in
        history.look(marks, atMs: atMs)
        guard schedule.keepsContents, history.intervals == schedule.intervals / 2 else { return }
        kept = try RewrittenPages.Kept(
          history.changedPages(limit: RewrittenPages.pagesMax), of: memory)
      }
      let rewritten = try kept.flatMap { try RewrittenPages($0, of: memory) }
      let contents = try SampledContents(sample, of: memory)
      return Result(
        history: history, durationMs: MonotonicClock.nowMs - beganMs,
        cpuMs: (MonotonicClock.threadUs - beganCPU) / 1000, contents: contents,
        rewritten: rewritten)
    }
  }

  /// Looks epoch by epoch; `each` hears of every one, on the sampler's thread.
  func trace(
    _ schedule: Schedule, each: @escaping @Sendable (HeatTrack.Epoch) -> Void
  ) async throws -> HeatTrack {
    try await whileWanted {
      let sample = try affordable(schedule)
      var track = HeatTrack(sample)
      try look(at: sample, schedule) { if let epoch = track.look($0, atMs: $1) { each(epoch) } }
      return track
    }
  }

  /// What is known of a guest before it is moved.
  struct Beforehand: Sendable {
    /// Guest memory that can be read from outside, by block name.
    var places: [String: GuestPlace]
    var contents: ContentProfile?
    /// Nil: nobody wanted to know.
    var bound: DirtyBound?
  }

  /// One look at where zeros lie, or half a second of looks; nil where the memory can't be read.
  static func beforehand(
    _ client: QMPClient, _ process: ProcessIdentity?, wantsBound: Bool
  ) async throws -> Beforehand? {
    guard let process, let memory = try await SampledMemory.open(client, process) else {
      return nil
    }
    let sampler = GuestSampler(memory, seed: .random(in: .min ... .max))
    if wantsBound {
      let history = try await sampler.run(boundSchedule).history
      return Beforehand(
        places: memory.places, contents: history.contents, bound: history.bound)
    }
    return try await sampler.whileWanted {
      var random = SplitMix64(seed: sampler.seed)
      let sample = PageSample(of: memory.ramPages, count: contentPages, using: &random)
      let marks = try memory.marks(of: sample)
      return Beforehand(
        places: memory.places, contents: ContentProfile(sample, isZero: marks.map { $0 == 0 }))
    }
  }

  private func whileWanted<Value: Sendable>(
    _ body: @escaping @Sendable () throws -> Value
  ) async throws -> Value {
    try await withTaskCancellationHandler {
      try await WorkerThread.run("gw-sample", body)
    } onCancel: {
      isOver.update { $0 = true }
    }
  }

  /// As many pages as can be looked at in the processor time that a look may take; one look finds that out.
  private func affordable(_ schedule: Schedule) throws -> PageSample {
    var random = SplitMix64(seed: seed)
    var sample = PageSample(of: memory.ramPages, count: schedule.pagesMax, using: &random)
    let beganUs = MonotonicClock.threadUs
    _ = try memory.marks(of: sample)
    let tookUs = MonotonicClock.threadUs - beganUs
    sample.thin(
      Int(clamping: tookUs * Self.budgetDivisor / (max(schedule.intervalMs, 1) * 1000)) + 1)
    return sample
  }

  private func look(
    at sample: PageSample, _ schedule: Schedule, each: ([UInt64], UInt64) throws -> Void
  ) throws {
    let intervalUs = max(schedule.intervalMs, 1) * 1000
    var dueUs = MonotonicClock.nowUs
    for _ in 0...max(schedule.intervals, 1) {
      if isOver.wait(timeoutMs: Self.msUntil(dueUs), until: { $0 ? true : nil }) != nil {
        throw CancellationError()
      }
      let atUs = MonotonicClock.nowUs
      try each(try memory.marks(of: sample), atUs / 1000)
      // A late look pushes the others back: no interval is shorter than asked for.
      dueUs = atUs + intervalUs
    }
  }

  private static func msUntil(_ dueUs: UInt64) -> UInt64 {
    let now = MonotonicClock.nowUs
    return dueUs > now ? (dueUs - now + 999) / 1000 : 0
  }
}
