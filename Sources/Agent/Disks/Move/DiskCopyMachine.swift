/// Decides when disks that are being copied are near enough for the guest's memory to follow. Pure.
struct DiskCopyMachine: Sendable {
  enum Effect: Sendable, Equatable {
    case goOn
    /// Have the guest's writes go to both sides from now on.
    case writeToBoth
    /// The memory's turn.
    case ready
    /// It would never end; the text says why, for people.
    case abandon(String)
  }

  /// What is left counts as little below a part of the disks, or this many bytes.
  static let littlePart: UInt64 = 64
  static let littleBytes: UInt64 = 16 << 20
  /// How long what is left may stay as much as it ever was, in milliseconds.
  static let patienceMs: UInt64 = 30_000

  private let method: DiskWishes.Method
  /// QEMU can have writes go to both sides later on.
  private let canChange: Bool
  private let byteCount: UInt64
  private var isMirroring: Bool
  private var least: (bytes: UInt64, atMs: UInt64)?

  init(_ method: DiskWishes.Method, canChange: Bool, byteCount: UInt64) {
    (self.method, self.canChange, self.byteCount) = (method, canChange, byteCount)
    isMirroring = method == .mirror
  }

  /// - Parameters:
  ///   - owedBytes: not copied yet, or written again since.
  ///   - isReady: nothing was owed at some moment.
  mutating func look(nowMs: UInt64, owedBytes: UInt64, isReady: Bool) -> Effect {
    let little = max(byteCount / Self.littlePart, Self.littleBytes)
    let isStuck: Bool
    if let least, owedBytes >= least.bytes {
      isStuck = nowMs >= least.atMs && nowMs - least.atMs > Self.patienceMs
    } else {
      least = (owedBytes, nowMs)
      isStuck = false
    }
    if method == .auto, canChange, !isMirroring {
      guard isReady || owedBytes <= little || isStuck else { return .goOn }
      isMirroring = true
      least = nil
      return .writeToBoth
    }
    if isReady { return .ready }
    guard isStuck, !isMirroring else { return .goOn }
    return .abandon(
      "the guest writes to its disks as fast as they are copied; use --disk-method mirror, or more bandwidth"
    )
  }
}
