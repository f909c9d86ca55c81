public import Base

/// The limit of a link that several migrations use at once: each gets a token bucket of its own, and
/// the rates of the buckets add up to the link's. Time is an argument, in microseconds.
///
/// What a member has used since the last division tells what it wants: one that had to wait wants all
/// it can get, one that did not wants a little more than it took. So a migration with many lanes gets
/// no more than one with few, and one that a slow guest holds up leaves its rest to the others.
public struct SharedLink: Sendable {
  /// How long a division holds.
  static let divisionUs: UInt64 = 100_000
  /// The least that a member is reckoned to want, as a part of an equal share: one that begins again
  /// after a pause must not wait long for its first bytes.
  static let idleDivisor: UInt64 = 4

  private struct Member: Sendable {
    /// Nil while there is no limit.
    var bucket: TokenBucket?
    var taken: UInt64 = 0
    var hasWaited = true
  }

  /// Nil: no limit.
  public private(set) var rate: ByteRate?
  private var members: [UInt64: Member] = [:]
  private var nextMember: UInt64 = 1
  /// Since when `taken` is counted.
  private var dividedAtUs: UInt64

  public init(rate: ByteRate?, nowUs: UInt64) { (self.rate, dividedAtUs) = (rate, nowUs) }

  public var memberCount: Int { members.count }

  /// Adds a member; the others' shares shrink at once.
  public mutating func join(nowUs: UInt64) -> UInt64 {
    defer { nextMember += 1 }
    members[nextMember] = Member()
    divide(nowUs: nowUs)
    return nextMember
  }

  /// Forgets a member, whose share goes to the others at once. Nothing happens for one that isn't
  /// there.
  public mutating func leave(_ member: UInt64, nowUs: UInt64) {
    members[member] = nil
    divide(nowUs: nowUs)
  }

  /// Changes the link's limit and divides it again at once; nil ends it. Waits that were given out
  /// before stay as they are.
  public mutating func setRate(_ rate: ByteRate?, nowUs: UInt64) {
    self.rate = rate
    divide(nowUs: nowUs)
  }

  /// Takes `bytes` for a member and returns how long it has to wait before it sends them, in
  /// microseconds; 0 for one that has left.
  public mutating func take(_ bytes: UInt64, member: UInt64, nowUs: UInt64) -> UInt64 {
    guard rate != nil else { return 0 }
    if nowUs >= dividedAtUs + Self.divisionUs { divide(nowUs: nowUs) }
    guard let delayUs = members[member]?.bucket?.take(bytes, nowUs: nowUs) else { return 0 }
    members[member]?.taken += bytes
    if delayUs > 0 { members[member]?.hasWaited = true }
    return delayUs
  }

  /// What a member may send now, in bytes per second; nil without a limit.
  public func share(of member: UInt64) -> ByteRate? {
    rate == nil ? nil : members[member]?.bucket?.rate
  }

  private mutating func divide(nowUs: UInt64) {
    let elapsedUs = nowUs > dividedAtUs ? nowUs - dividedAtUs : 0
    // Too short a look tells nothing: then a member wants all it can get.
    let isTelling = elapsedUs >= Self.divisionUs / 2
    if isTelling { dividedAtUs = nowUs }
    guard let rate, !members.isEmpty else { return }
    let ids = members.keys.sorted()
    let floor = rate.bytesPerSecond / UInt64(ids.count) / Self.idleDivisor
    let demands = ids.map { id -> UInt64? in
      let isBehind = members[id]?.bucket?.isBehind(nowUs: nowUs) ?? false
      guard isTelling, !isBehind, let member = members[id], !member.hasWaited else { return nil }
      let (scaled, overflow) = member.taken.multipliedReportingOverflow(by: 1_250_000)
      return overflow ? nil : max(scaled / elapsedUs, floor)
    }
    let shares = MaxMinShares.divide(rate.bytesPerSecond, among: demands)
    for (id, share) in zip(ids, shares) {
      guard var member = members[id], let own = ByteRate(bytesPerSecond: max(share, 1)) else {
        continue
      }
      if member.bucket == nil { member.bucket = TokenBucket(rate: own, nowUs: nowUs) }
      member.bucket?.setRate(own, nowUs: nowUs)
      if isTelling { (member.taken, member.hasWaited) = (0, false) }
      members[id] = member
    }
  }
}
