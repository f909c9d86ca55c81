import Glibc

/// A name that a host's certificate is for: of DNS, or an address.
public enum HostName: Hashable, Sendable, CustomStringConvertible {
  /// Lower case, without the dot at the end.
  case dns(String)
  /// 4 or 16 bytes, network order.
  case address([UInt8])

  /// Reads a name as people write it; nil when it can stand in no certificate.
  public init?(_ text: String) {
    var text = text
    if text.hasPrefix("["), text.hasSuffix("]") { text = String(text.dropFirst().dropLast()) }
    if let bytes = Self.bytes(of: text) {
      self = .address(bytes)
      return
    }
    let name = Self.folded(text)
    let labels = name.split(separator: ".", omittingEmptySubsequences: false)
    let isSound = labels.enumerated().allSatisfy { index, label in
      if index == 0, label == "*", labels.count > 1 { return true }
      return (1...63).contains(label.utf8.count) && !label.hasPrefix("-")
        && label.utf8.allSatisfy { byte in
          (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
        }
    }
    guard isSound, name.utf8.count <= 253 else { return nil }
    self = .dns(name)
  }

  /// Whether this name, from a certificate, covers `wanted`. `*` stands for one whole label.
  public func covers(_ wanted: HostName) -> Bool {
    guard case .dns(let pattern) = self, case .dns(let name) = wanted, pattern.hasPrefix("*.")
    else { return self == wanted }
    guard let dot = name.firstIndex(of: ".") else { return false }
    return name[dot...] == pattern.dropFirst()
  }

  public var description: String {
    switch self {
    case .dns(let name): name
    case .address(let bytes): Self.text(of: bytes)
    }
  }

  static func folded(_ text: String) -> String {
    let lower = text.lowercased()
    return lower.hasSuffix(".") ? String(lower.dropLast()) : lower
  }

  private static func bytes(of text: String) -> [UInt8]? {
    for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
      var bytes = [UInt8](repeating: 0, count: count)
      // SAFETY: inet_pton writes 4 or 16 bytes for these families, the array's size.
      let result = unsafe bytes.withUnsafeMutableBytes { raw in
        unsafe inet_pton(family, text, raw.baseAddress)
      }
      if result == 1 { return bytes }
    }
    return nil
  }

  private static func text(of bytes: [UInt8]) -> String {
    let family = bytes.count == 4 ? AF_INET : AF_INET6
    guard bytes.count == 4 || bytes.count == 16 else { return "address of \(bytes.count) bytes" }
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    // SAFETY: `bytes` has the size of the family; `text` holds the longest address and its NUL.
    let result = unsafe bytes.withUnsafeBytes { raw in
      unsafe inet_ntop(family, raw.baseAddress, &text, socklen_t(text.count))
    }
    guard unsafe result != nil else { return "an address" }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
