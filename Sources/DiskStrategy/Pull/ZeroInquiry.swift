import Base

/// What of a disk its source has been asked: which parts are zeros and needn't be fetched. Pure.
///
/// One question is about as much as possible. A server that looks its disk's extents up slowly may owe the answer longer than a
/// connection is kept over which nothing comes; asked the same again it would break every connection. So each
/// question that a connection broke over makes the next ones shorter, and at last there are none: the rest is fetched, zeros or
/// not.
public struct ZeroInquiry: Sendable, Equatable {
  /// Longest and shortest question, in bytes: 1 GiB and 16 MiB.
  public static let byteCountMax: UInt64 = 1 << 30
  public static let byteCountMin: UInt64 = 16 << 20
  /// After a connection broke a question is so many times shorter.
  private static let divisor: UInt64 = 4

  private let diskByteCount: UInt64
  /// Of a question; nil: the source isn't asked any more.
  private var byteCount: UInt64? = Self.byteCountMax
  /// Parts of `byteCountMin` that are settled.
  private var asked: PageBitmap

  /// - Parameter diskByteCount: at least 1, at most `DiskGeometry.byteCountMax`.
  public init(diskByteCount: UInt64) {
    self.diskByteCount = diskByteCount
    asked = PageBitmap(count: Int((diskByteCount + Self.byteCountMin - 1) / Self.byteCountMin))
  }

  /// What is to be asked before the byte at `place` is fetched; nil: nothing.
  public func question(at place: UInt64) -> Range<UInt64>? {
    guard let byteCount, place < diskByteCount, !asked[Int(place / Self.byteCountMin)] else {
      return nil
    }
    let start = place / byteCount * byteCount
    return start..<min(start + byteCount, diskByteCount)
  }

  /// There is an answer, or the source can't give one.
  public mutating func noteAnswer(to question: Range<UInt64>) {
    guard !question.isEmpty else { return }
    let last = (question.upperBound - 1) / Self.byteCountMin
    for part in Int(question.lowerBound / Self.byteCountMin)...Int(last) {
      _ = asked.insert(part)
    }
  }

  /// The connection broke that owed an answer.
  public mutating func noteBreak() {
    guard let length = byteCount else { return }
    byteCount = length > Self.byteCountMin ? length / Self.divisor : nil
  }
}
