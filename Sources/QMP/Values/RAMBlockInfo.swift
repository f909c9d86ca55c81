/// One line of the human monitor's `info ramblock`; there is no QMP command for it.
public struct RAMBlockInfo: Sendable, Hashable {
  public let name: String
  /// Bytes the migration stream announces, and bytes reserved for growth (firmware tables).
  public let usedSize, totalSize: UInt64
  /// Host page size of the block, in bytes.
  public let pageSize: UInt64
  /// Address in QEMU's own address space; QEMU 8.0 and later say it.
  public let hostAddress: UInt64?

  public init(
    name: String, usedSize: UInt64, totalSize: UInt64, pageSize: UInt64, hostAddress: UInt64?
  ) {
    (self.name, self.usedSize, self.totalSize) = (name, usedSize, totalSize)
    (self.pageSize, self.hostAddress) = (pageSize, hostAddress)
  }

  /// Blocks in one VM; QEMU itself stays far below.
  public static let countMax = 4096

  /// Reads the table: name, page size with unit, offset, used, total, and from 8.0 on the host
  /// address and `ro` or `rw`. Columns are read from the right, for names may hold spaces.
  public static func parse(_ text: String) -> [RAMBlockInfo] {
    text.split(whereSeparator: \.isNewline).prefix(countMax).compactMap { line in
      var words = line.split(separator: " ")
      if let last = words.last, last == "ro" || last == "rw" { words.removeLast() }
      var numbers: [UInt64] = []
      while let word = words.last, word.hasPrefix("0x"),
        let number = UInt64(word.dropFirst(2), radix: 16)
      {
        numbers.insert(number, at: 0)
        words.removeLast()
      }
      guard numbers.count == 3 || numbers.count == 4, words.count >= 3 else { return nil }
      let unit = words.removeLast()
      guard let count = UInt64(words.removeLast()),
        let shift = ["B": 0, "KiB": 10, "MiB": 20, "GiB": 30][unit], count < 1 << 20
      else { return nil }
      return RAMBlockInfo(
        name: words.joined(separator: " "), usedSize: numbers[1], totalSize: numbers[2],
        pageSize: count << UInt64(shift), hostAddress: numbers.count == 4 ? numbers[3] : nil)
    }
  }
}

/// One range of a flat view, from the human monitor's `info mtree -f`: where RAM lies for the guest.
public struct GuestRAMRange: Sendable, Hashable {
  public let blockName: String
  /// Guest-physical address of the first byte.
  public let guestAddress: UInt64
  public let length: UInt64
  /// Offset of the first byte in the block.
  public let blockOffset: UInt64

  /// The RAM ranges of the address space `memory`, in address order.
  public static func parse(_ text: String) -> [GuestRAMRange] {
    var ranges: [GuestRAMRange] = []
    var inMemory = false
    var inRanges = false
    for line in text.split(whereSeparator: \.isNewline) {
      let words = line.split(separator: " ")
      if line.hasPrefix("FlatView") {
        (inMemory, inRanges) = (false, false)
      } else if words.first == "AS" {
        if line.contains("\"memory\"") { inMemory = true }
      } else if words.first == "Root" {
        inRanges = inMemory
      } else if inRanges, ranges.count < RAMBlockInfo.countMax, let range = GuestRAMRange(words) {
        ranges.append(range)
      }
    }
    return ranges
  }

  /// `0000000000100000-000000000401ffff (prio 0, ram): mem0 @0000000000100000`.
  private init?(_ words: [Substring]) {
    guard words.count >= 5, words[1] == "(prio", words[3] == "ram):" else { return nil }
    let bounds = words[0].split(separator: "-")
    guard bounds.count == 2, let first = UInt64(bounds[0], radix: 16),
      let last = UInt64(bounds[1], radix: 16), last >= first, last - first < .max
    else { return nil }
    var offset: UInt64 = 0
    var name = words[4...]
    if let index = name.firstIndex(where: { $0.hasPrefix("@") }),
      let value = UInt64(name[index].dropFirst(), radix: 16)
    {
      offset = value
      name = name[..<index]
    }
    (blockName, guestAddress) = (name.joined(separator: " "), first)
    (length, blockOffset) = (last - first + 1, offset)
  }
}
