/// Processors of this host, by the kernel's numbers.
public struct CPUSet: Sendable, Hashable {
  /// Processors that a kernel can be built for (`CONFIG_NR_CPUS` of x86).
  public static let numberMax = 8191
  static let wordCount = (numberMax + 1) / 64

  /// Bit n of word n / 64.
  var words: [UInt64]

  /// No processor.
  public init() { words = Array(repeating: 0, count: Self.wordCount) }

  /// Numbers over `numberMax` are left out.
  public init(_ numbers: some Sequence<Int>) {
    self.init()
    for number in numbers { insert(number) }
  }

  /// A number outside of `0...numberMax` is left out.
  public mutating func insert(_ number: Int) {
    guard (0...Self.numberMax).contains(number) else { return }
    words[number >> 6] |= 1 << UInt64(number & 63)
  }

  /// False for a number outside of `0...numberMax`.
  public func contains(_ number: Int) -> Bool {
    (0...Self.numberMax).contains(number) && words[number >> 6] & 1 << UInt64(number & 63) != 0
  }

  public var count: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }
  public var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

  /// Ascending.
  public var numbers: [Int] {
    var numbers: [Int] = []
    for (index, word) in words.enumerated() {
      var rest = word
      while rest != 0 {
        numbers.append(index << 6 + rest.trailingZeroBitCount)
        rest &= rest - 1
      }
    }
    return numbers
  }

  public func union(_ other: CPUSet) -> CPUSet {
    var result = self
    for index in words.indices { result.words[index] |= other.words[index] }
    return result
  }

  public func intersection(_ other: CPUSet) -> CPUSet {
    var result = self
    for index in words.indices { result.words[index] &= other.words[index] }
    return result
  }

  /// Ascending from `number` on, and then those below it.
  public func numbers(from number: Int) -> [Int] {
    let all = numbers
    return all.filter { $0 >= number } + all.filter { $0 < number }
  }
}

extension CPUSet: CustomStringConvertible {
  /// As the kernel writes lists: `0-3,8`.
  public var description: String {
    var parts: [String] = []
    var rest = numbers[...]
    while let first = rest.popFirst() {
      var last = first
      while rest.first == last + 1 { last = rest.removeFirst() }
      parts.append(last == first ? "\(first)" : "\(first)-\(last)")
    }
    return parts.joined(separator: ",")
  }

  /// Reads what `description` and `/proc` write; nil when it is no such list.
  public init?(parsing text: some StringProtocol) {
    self.init()
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let ends = part.split(separator: "-", omittingEmptySubsequences: false)
      guard let first = Self.number(ends[0]), let last = Self.number(ends[ends.count - 1]),
        ends.count <= 2, first <= last
      else { return nil }
      for number in first...last { insert(number) }
    }
  }

  private static func number(_ text: some StringProtocol) -> Int? {
    guard !text.isEmpty, text.allSatisfy({ $0.isASCII && $0.isNumber }), let number = Int(text),
      number <= numberMax
    else { return nil }
    return number
  }
}

extension CPUSet: Codable {
  public init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let set = CPUSet(parsing: text) else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "no list of processors: \(text)"))
    }
    self = set
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
