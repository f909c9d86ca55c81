/// Finds the end of a pre-copy stream's tail, byte by byte, without holding any of it.
///
/// The device state before the end has no length, and a source that waits on its return path does
/// not close the connection. The end is `00 06`, u32 length, and as many bytes of JSON. A place
/// that merely looks like its start must survive the JSON grammar to the last byte and be an
/// object with QEMU's key `devices`. JSON holds no byte 00, so a live candidate ends at the next
/// candidate's start or soon after: two slots are enough for all.
struct DescriptionScanner: Sendable {
  private struct Candidate: Sendable {
    /// Bytes of JSON still to come.
    var remaining: UInt64
    let length: UInt64
    var json = JSONSyntax()

    mutating func feed(_ byte: UInt8) -> Bool {
      remaining -= 1
      return json.feed(byte) && (remaining > 0 || json.isComplete && json.hasDevices)
    }
  }

  /// Bytes scanned.
  private(set) var count: UInt64 = 0
  /// The last eight bytes, the newest lowest.
  private var window: UInt64 = 0
  private var first: Candidate?
  private var second: Candidate?

  private var sections = TailSections()

  /// Whether the bytes so far end like a stream without description.
  var endsWithoutDescription: Bool { sections.isAtEnd }

  /// Scans `bytes`; returns how many belong to the stream (all, before the end is met) and the
  /// length of the description when its last byte is among them.
  mutating func scan(_ bytes: RawSpan, lengthMax: UInt64) -> (count: Int, description: Int?) {
    for index in 0..<bytes.byteCount {
      // SAFETY: index is below byteCount; every bit pattern is a valid byte.
      let byte = unsafe bytes.unsafeLoad(fromUncheckedByteOffset: index, as: UInt8.self)
      count += 1
      window = window << 8 | UInt64(byte)
      sections.feed(byte, window: window)
      if first != nil || second != nil, let length = feedCandidates(byte) {
        return (index + 1, Int(length))
      }
      if byte == UInt8(ascii: "{") { consider(lengthMax) }
    }
    return (bytes.byteCount, nil)
  }

  /// The length of the candidate that `byte` completes.
  private mutating func feedCandidates(_ byte: UInt8) -> UInt64? {
    if first?.feed(byte) == false { first = nil }
    if second?.feed(byte) == false { second = nil }
    if let first, first.remaining == 0 { return first.length }
    if let second, second.remaining == 0 { return second.length }
    return nil
  }

  /// The window ends with `{`: starts a candidate when `00 06` and a possible length precede.
  private mutating func consider(_ lengthMax: UInt64) {
    let length = (window >> 8) & 0xFFFF_FFFF
    guard count >= 7, (window >> 40) & 0xFFFF == UInt64(StreamFormat.Record.description),
      length >= 2, length <= lengthMax
    else { return }
    var candidate = Candidate(remaining: length, length: length)
    guard candidate.feed(UInt8(ascii: "{")) else { return }
    if first == nil { first = candidate } else { second = candidate }
  }
}
