/// Decides how a disk moves: what becomes of the guest's requests, and when its writes have to wait
/// for the end. Pure; time is in the samples.
///
/// Each method begins in its own way and ends in the same: what the destination lacks has become so
/// little that the guest's writes may wait for it. A method under which that doesn't happen by itself
/// goes on as `mirror`, under which it has to: a block that has arrived once stays the same on both sides.
public struct MoveMachine: Sendable, Equatable {
  /// Rounds in a row that may not shrink what is left before `precopy` mirrors.
  static let idleRoundsMax = 3
  /// A round shrinks what is left when at most this share remains, in eighths.
  static let shrunkEighths: UInt64 = 7
  /// Rounds after which `iofollow` mirrors.
  static let followRoundsMax: UInt64 = 2
  /// What may be left for `iofollow` to mirror before that, as a share of the disk.
  static let followRest: UInt64 = 64

  public let method: MoveMethod
  /// Longest that the guest's writes shall wait at the end, in milliseconds.
  public let pauseLimitMs: UInt64
  private var isMirroring: Bool
  private var round: UInt64 = 0
  private var neededAtRound: UInt64 = .max
  private var idleRounds = 0
  /// After an attempt to end that took too long, none before this time.
  private var noFreezeBeforeMs: UInt64 = 0

  public init(_ method: MoveMethod, pauseLimitMs: UInt64) {
    (self.method, self.pauseLimitMs) = (method, pauseLimitMs)
    isMirroring = method == .mirror
  }

  /// Whether the guest's writes go to both sides for good.
  public var mirrors: Bool { isMirroring }

  /// Takes a sample, says what to do until the next one.
  public mutating func look(_ sample: MoveSample) -> MoveDecision {
    let roundBefore = round
    if sample.roundCount > round { endRound(sample) }
    var decision = MoveDecision()
    if isMirroring {
      decision.writes = .mirror
    } else if method == .iofollow {
      (decision.writes, decision.forwardsReads) = (.forward, true)
    }
    // What the guest reads is in memory in any case, and where it is the head is: also at the end.
    if method == .iofollow {
      (decision.forwardsReads, decision.widensReads, decision.followsGuest) = (true, true, true)
    }
    if method == .waio { outsource(&decision) }
    guard sample.isConnected, sample.nowMs >= noFreezeBeforeMs else { return decision }
    decision.freezes = isNearEnd(sample, roundBefore)
    if decision.freezes { decision.defersWritten = false }
    return decision
  }

  /// First the original alone. Then what is in the surrogate, where the guest works, too: whatever it reads or writes there
  /// is sent from memory, so that the copier need not read it between its requests, and what is left shrinks however much
  /// the guest writes.
  private func outsource(_ decision: inout MoveDecision) {
    decision.yieldsToGuest = true
    decision.defersWritten = round == 0 && !isMirroring
    guard !decision.defersWritten else { return }
    (decision.readsTail, decision.forwardsReads) = (true, true)
    if !isMirroring { decision.writes = .forward }
  }

  private func isNearEnd(_ sample: MoveSample, _ roundBefore: UInt64) -> Bool {
    if isMirroring {
      return sample.neededBytes == 0 || (round > 0 && isShort(sample, pauseLimitMs / 4))
    }
    guard method == .waio else { return isShort(sample, pauseLimitMs / 2) }
    // How fast the original was read from end to end says nothing of how fast the surrogate will be, which the guest has, too.
    // And what is left comes to nothing by itself there.
    return sample.neededBytes == 0 || (roundBefore > 0 && isShort(sample, pauseLimitMs / 8))
  }

  private func isShort(_ sample: MoveSample, _ limitMs: UInt64) -> Bool {
    sample.restMs.map { $0 <= limitMs } ?? false
  }

  private mutating func endRound(_ sample: MoveSample) {
    round = sample.roundCount
    if method == .iofollow, !isMirroring {
      let isLittle = sample.neededBytes <= sample.diskBytes / Self.followRest
      isMirroring = isLittle || round >= Self.followRoundsMax
    }
    let limit = neededAtRound / 8 * Self.shrunkEighths
    idleRounds = neededAtRound != .max && sample.neededBytes > limit ? idleRounds + 1 : 0
    neededAtRound = sample.neededBytes
    if idleRounds >= Self.idleRoundsMax { isMirroring = true }
  }

  /// The guest's writes waited too long for the end and go on.
  public mutating func freezeFailed(nowMs: UInt64) {
    isMirroring = true
    noFreezeBeforeMs = nowMs + 1000
  }

  /// The two sides are to be kept the same from now on, whatever the method.
  public mutating func hold() { isMirroring = true }
}
