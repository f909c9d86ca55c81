/// Who is next on the link when both have something: what waits in memory, or the copier. Pure.
///
/// What was read for the guest and isn't sent in time has to be read again, so it has most of the link; the copier has
/// the rest, for a guest that writes as fast as the link carries would keep it from ever going round. They are counted in
/// bytes: the copier's runs are longer than most requests.
public struct SendTurns: Sendable, Equatable {
  /// Bytes from memory for each of the copier's.
  static let forwardedShare: UInt64 = 3

  /// Bytes from memory that come before the copier's next run.
  private var due: UInt64 = 0

  public init() {}

  /// What waits in memory comes first.
  public var isForForwarded: Bool { due > 0 }

  /// Something from memory was sent.
  public mutating func noteForwarded(_ bytes: UInt64) { due -= min(bytes, due) }

  /// The copier has taken a run.
  public mutating func noteCopied(_ bytes: UInt64) {
    let (product, overflow) = bytes.multipliedReportingOverflow(by: Self.forwardedShare)
    due = overflow ? .max : product
  }
}
