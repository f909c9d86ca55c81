/// Where a guest's words go over from the serial port of one QEMU to that of another. Pure.
///
/// A line that was begun where the guest was ends where it is. And a few bytes may come from both: when nobody has read
/// the port for a while, QEMU keeps what its UART has not got out (a byte and a FIFO of 16) and writes it once it can, also
/// when the guest has been stopped and these bytes have gone to the destination as part of the device's state. So the beat
/// that follows is looked for behind every repetition there may be.
struct SerialSeam: Sendable {
  /// Bytes that may come from both, at most.
  static let repeatedMax = 17

  /// The line that was begun, and the last bytes that were said where the guest was.
  private let begun, said: [UInt8]
  /// What was said since.
  private var bytes: [UInt8] = []
  private var lineCount = 0

  init(begun: [UInt8], said: [UInt8]) { (self.begun, self.said) = (begun, said) }

  /// All that is not taken yet.
  var unfinished: [UInt8] { begun + bytes }

  /// What is to be taken for what was said here; nil: a further line is needed to know.
  ///
  /// - Parameter last: the last beat before; nil: there was none.
  mutating func append(_ byte: UInt8, after last: Heartbeat?) -> [UInt8]? {
    bytes.append(byte)
    let isFull = bytes.count >= HeartbeatLog.lineBytesMax
    guard byte == UInt8(ascii: "\n") || isFull else { return nil }
    lineCount += 1
    var best: (growth: UInt64, words: [UInt8])?
    for count in 0...min(Self.repeatedMax, said.count, bytes.count) {
      guard bytes.starts(with: said.suffix(count)) else { continue }
      let words = begun + bytes.dropFirst(count)
      guard let end = words.firstIndex(of: UInt8(ascii: "\n")),
        let beat = Heartbeat(line: String(decoding: words[..<end], as: UTF8.self)),
        let growth = beat.growth(since: last)
      else { continue }
      // A digit that was said twice makes a number ten times as large.
      if best.map({ growth < $0.growth }) ?? true { best = (growth, words) }
    }
    if let best { return best.words }
    // Neither with nor without a repetition: it is what it is.
    return lineCount < 2 && !isFull ? nil : unfinished
  }
}

extension Heartbeat {
  /// By how much its counts are beyond those of the beat right before it; nil: it can't be the next one.
  fileprivate func growth(since last: Heartbeat?) -> UInt64? {
    guard let last else { return 0 }
    guard sequence > last.sequence, sequence - last.sequence == 1 else { return nil }
    var sum: UInt64 = 0
    for (now, before) in [
      (uptimeMs, last.uptimeMs), (dirtiedPages, last.dirtiedPages),
      (verifiedScans, last.verifiedScans), (errors, last.errors), (work, last.work),
      (kernelRuns, last.kernelRuns), (diskScans, last.diskScans),
    ] {
      guard now >= before else { return nil }
      let (total, overflow) = sum.addingReportingOverflow(now - before)
      sum = overflow ? .max : total
    }
    return sum
  }
}
