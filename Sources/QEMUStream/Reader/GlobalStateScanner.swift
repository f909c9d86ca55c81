/// Finds in a stream's tail the run state that QEMU had when it stopped the guest for the last time: its section
/// `globalstate`, written in the same breath as the stop. No monitor can tell this: from outside a guest that its
/// operator has paused and one that QEMU has just stopped look the same.
///
/// Sections of device state have no length, and devices before it may hold any bytes, some of them the guest's. So a
/// section counts from its type byte to its footer, with everything that is always the same in it; where two are found
/// that say different things, nothing is known.
public struct GlobalStateScanner: Sendable {
  /// What QEMU wrote: `running`, `paused` and so on (`RunState` of its API); nil: not found, or more than one.
  public var runState: String? { isAmbiguous ? nil : found }

  private var found: String?
  private var isAmbiguous = false
  /// The last bytes, fewer than a section has.
  private var carry: [UInt8] = []

  private static let name = Array("globalstate".utf8)
  private static let stateLength = 100
  /// Type, id, name with its length, instance, version.
  private static let headLength = 1 + 4 + 1 + name.count + 4 + 4
  static let sectionLength = headLength + 4 + stateLength + 5

  public init() {}

  /// Takes the next bytes of the tail, in any chunks.
  public mutating func scan(_ bytes: RawSpan) {
    // SAFETY: the bytes are copied within the call.
    carry += unsafe bytes.withUnsafeBytes { unsafe Array($0) }
    guard carry.count >= Self.sectionLength else { return }
    for start in 0...(carry.count - Self.sectionLength)
    where carry[start] == StreamFormat.Record.full && carry[start + 5] == UInt8(Self.name.count) {
      guard let state = Self.state(in: carry[start..<start + Self.sectionLength]) else { continue }
      if let found, found != state { isAmbiguous = true }
      found = found ?? state
    }
    carry.removeFirst(carry.count - Self.sectionLength + 1)
  }

  /// The state that `section` names; nil: it is something else.
  private static func state(in section: ArraySlice<UInt8>) -> String? {
    let bytes = Array(section)
    // Instance 0, version 1.
    let head = bytes[6..<headLength]
    guard Array(head) == name + [0, 0, 0, 0, 0, 0, 0, 1],
      bytes[bytes.count - 5] == StreamFormat.Record.footer,
      bytes[1..<5] == bytes[(bytes.count - 4)...]
    else { return nil }
    let text = bytes[headLength + 4..<headLength + 4 + stateLength].prefix { $0 != 0 }
    // A small number, with the zero byte at the text's end counted.
    guard bytes[headLength..<headLength + 3].allSatisfy({ $0 == 0 }),
      Int(bytes[headLength + 3]) == text.count + 1, !text.isEmpty,
      text.allSatisfy({ (0x61...0x7A).contains($0) || $0 == UInt8(ascii: "-") })
    else { return nil }
    return String(decoding: text, as: UTF8.self)
  }
}
