import Base

/// The guest's writable working set: how much distinct memory it dirties in one pass. Pure.
///
/// Right after QEMU has looked at its dirty bitmap, what remains is exactly the pages dirtied in the
/// pass before. The most of the last passes counts: a short pass sees only a part.
public struct WorkingSet: Sendable, Equatable {
  static let passCountMax = 4

  private var pass: UInt64 = 1
  private var recent: [UInt64] = []

  public init() {}

  /// In bytes; nil during the bulk pass.
  public var bytes: UInt64? { recent.max() }

  /// Takes a look; only the first of each pass behind the bulk pass counts, so that one should come
  /// right after QEMU has looked at its bitmap.
  public mutating func handle(_ sample: MigrationSample) {
    guard sample.pass > pass else { return }
    pass = sample.pass
    recent.append(sample.remaining.bytes)
    if recent.count > Self.passCountMax { recent.removeFirst() }
  }
}
