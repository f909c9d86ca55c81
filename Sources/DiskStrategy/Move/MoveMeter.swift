/// How fast a move gets on, and when it will be over: from looks of the last seconds. Pure.
public struct MoveMeter: Sendable, Equatable {
  /// How long a look counts, in milliseconds.
  static let windowMs: UInt64 = 5000
  /// Looks closer together than this count once.
  static let spacingMs: UInt64 = 200

  private struct Look: Sendable, Equatable {
    let atMs, sentBytes, neededBytes: UInt64
  }
  private var looks: [Look] = []

  public init() {}

  /// - Parameters:
  ///   - sentBytes: that have arrived since the beginning.
  ///   - neededBytes: that the destination lacks.
  public mutating func note(nowMs: UInt64, sentBytes: UInt64, neededBytes: UInt64) {
    if let last = looks.last, nowMs < last.atMs + Self.spacingMs { return }
    looks.removeAll { nowMs > $0.atMs + Self.windowMs }
    looks.append(Look(atMs: nowMs, sentBytes: sentBytes, neededBytes: neededBytes))
  }

  /// Nothing moved for a while, and that says nothing about the link.
  public mutating func forget() { looks = [] }

  /// What arrives, in bytes per second; nil: not known yet.
  public var bytesPerSecond: UInt64? {
    guard let first = looks.first, let last = looks.last, last.atMs > first.atMs,
      last.sentBytes > first.sentBytes
    else { return nil }
    return perSecond(last.sentBytes - first.sentBytes, last.atMs - first.atMs)
  }

  /// Time until nothing is needed any more, at the pace at which that has shrunk, in milliseconds;
  /// nil: not known, or it doesn't shrink.
  public var etaMs: UInt64? {
    guard let first = looks.first, let last = looks.last, last.atMs > first.atMs else { return nil }
    if last.neededBytes == 0 { return 0 }
    guard first.neededBytes > last.neededBytes,
      let pace = perSecond(first.neededBytes - last.neededBytes, last.atMs - first.atMs)
    else { return nil }
    let (scaled, overflow) = last.neededBytes.multipliedReportingOverflow(by: 1000)
    return overflow ? nil : scaled / pace
  }

  private func perSecond(_ bytes: UInt64, _ ms: UInt64) -> UInt64? {
    let (scaled, overflow) = bytes.multipliedReportingOverflow(by: 1000)
    let pace = overflow ? bytes / max(ms, 1) * 1000 : scaled / max(ms, 1)
    return pace > 0 ? pace : nil
  }
}
