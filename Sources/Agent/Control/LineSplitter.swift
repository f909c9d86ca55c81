/// Cuts a byte stream into lines, whatever the pieces it arrives in. Sans-IO.
///
/// Invariant: holds at most `bytesMax` bytes between calls.
struct LineSplitter {
  struct TooLong: Error {}

  /// Longest line, in bytes without its end.
  let bytesMax: Int
  private var pending: [UInt8] = []

  init(bytesMax: Int) { self.bytesMax = bytesMax }

  /// Takes the next piece, gives the lines that it completes; empty lines are skipped.
  mutating func push(_ piece: some Sequence<UInt8>) throws(TooLong) -> [[UInt8]] {
    var lines: [[UInt8]] = []
    for byte in piece {
      if byte == UInt8(ascii: "\n") {
        if !pending.isEmpty { lines.append(pending) }
        pending.removeAll(keepingCapacity: true)
      } else {
        guard pending.count < bytesMax else { throw TooLong() }
        pending.append(byte)
      }
    }
    return lines
  }
}
