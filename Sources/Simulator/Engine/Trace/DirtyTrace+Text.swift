/// The text form, one line each:
///
///     godwit-trace 1
///     ram-pages 196608
///     zero-pages 20000
///     page-bytes 4120
///     vcpus 4
///     epoch 1000 512 40 12 3 0 0 0 7
///     end 1
///
/// An epoch is its length in milliseconds and 8 counts. The last line says how many epochs there are, so
/// that a file that was cut off is known. A reader takes version 1 only, in this order only.
extension DirtyTrace {
  static let lineBytesMax = 512

  /// The form above, with a line break at its end. What is out of range is written all the same,
  /// and refused when it is read.
  public var text: String {
    var lines = [
      "godwit-trace 1", "ram-pages \(ramPages)", "zero-pages \(zeroPages)",
      "page-bytes \(pageBytes)",
      "vcpus \(vcpuCount)",
    ]
    lines += epochs.map { epoch in
      (["epoch", "\(epoch.lengthMs)"] + epoch.dirtiedByHeat.map { "\($0)" }).joined(separator: " ")
    }
    return (lines + ["end \(epochs.count)", ""]).joined(separator: "\n")
  }

  /// Reads the text form; whatever is wrong in it is refused, nothing is guessed.
  public init(parsing bytes: [UInt8]) throws(TraceRefusal) {
    var lines = Lines(bytes)
    guard try lines.next("godwit-trace", count: 1, max: .max) == [1] else {
      throw lines.refusal("this program reads version 1 of a trace")
    }
    ramPages = try lines.next("ram-pages", count: 1, max: Self.pagesMax)[0]
    zeroPages = try lines.next("zero-pages", count: 1, max: ramPages)[0]
    pageBytes = try lines.next("page-bytes", count: 1, max: 8192)[0]
    vcpuCount = try lines.next("vcpus", count: 1, max: 65_536)[0]
    guard ramPages > 0, pageBytes > 0, vcpuCount > 0 else {
      throw lines.refusal("a guest has pages and vCPUs")
    }
    epochs = []
    while lines.peek == "epoch" {
      guard epochs.count < Self.epochsMax else {
        throw lines.refusal("more than \(Self.epochsMax) epochs")
      }
      let numbers = try lines.next("epoch", count: 9, max: max(ramPages, Self.epochMsMax))
      let epoch = Epoch(lengthMs: numbers[0], dirtiedByHeat: Array(numbers[1...]))
      guard (1...Self.epochMsMax).contains(epoch.lengthMs) else {
        throw lines.refusal("an epoch lasts 1 to \(Self.epochMsMax) ms")
      }
      // Eight counts of at most 2^36: no overflow.
      guard epoch.dirtiedByHeat.allSatisfy({ $0 <= ramPages }), epoch.dirtiedPages <= ramPages
      else {
        throw lines.refusal("more pages dirtied than there are")
      }
      epochs.append(epoch)
    }
    let count = try lines.next("end", count: 1, max: UInt64(Self.epochsMax))[0]
    guard count == epochs.count else {
      throw lines.refusal("\(epochs.count) epochs, and the end says \(count)")
    }
    try lines.finish()
  }
}

/// Lines of a key and numbers.
private struct Lines {
  private var rest: ArraySlice<UInt8>
  private var number = 0

  init(_ bytes: [UInt8]) { rest = bytes[...] }

  /// The next line's key, or nil.
  var peek: String? {
    let key = rest.prefix(16).prefix { $0 != 0x20 && $0 != 0x0A }
    return key.isEmpty ? nil : String(decoding: key, as: UTF8.self)
  }

  func refusal(_ reason: String) -> TraceRefusal { TraceRefusal(line: number, reason: reason) }

  /// The numbers of the next line, which must have this key and so many of them, none above `max`.
  mutating func next(_ key: String, count: Int, max: UInt64) throws(TraceRefusal) -> [UInt64] {
    number += 1
    let window = rest.prefix(DirtyTrace.lineBytesMax + 1)
    guard let end = window.firstIndex(of: 0x0A) else {
      throw refusal(window.isEmpty ? "\(key) is missing" : "the line doesn't end, or is too long")
    }
    let fields = rest[..<end].split(separator: 0x20, omittingEmptySubsequences: false)
    rest = rest[(end + 1)...]
    guard fields.count == count + 1, fields[0].elementsEqual(key.utf8) else {
      throw refusal("\(key) and \(count) numbers are expected here")
    }
    var numbers: [UInt64] = []
    for field in fields.dropFirst() {
      guard let value = decimal(field), value <= max else {
        throw refusal(
          "a number is expected in place of a field of \(field.count) bytes, or it is too large")
      }
      numbers.append(value)
    }
    return numbers
  }

  func finish() throws(TraceRefusal) {
    guard rest.isEmpty else { throw refusal("something follows the end") }
  }

  /// Digits only, one way to write each number.
  private func decimal(_ field: ArraySlice<UInt8>) -> UInt64? {
    guard (1...20).contains(field.count), field.allSatisfy({ (0x30...0x39).contains($0) }),
      field.count == 1 || field.first != 0x30
    else { return nil }
    return UInt64(String(decoding: field, as: UTF8.self))
  }
}
