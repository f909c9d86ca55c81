/// `query-version`, and part of the greeting.
public struct QEMUVersion: Sendable, Hashable, Codable, Comparable {
  public let major, minor, micro: Int
  /// The distribution's own version, possibly empty.
  public let package: String

  public init(_ major: Int, _ minor: Int, _ micro: Int = 0, package: String = "") {
    (self.major, self.minor, self.micro, self.package) = (major, minor, micro, package)
  }

  init?(_ json: JSONValue?) {
    guard let numbers = json?["qemu"], let major = numbers["major"]?.int,
      let minor = numbers["minor"]?.int, let micro = numbers["micro"]?.int
    else { return nil }
    self.init(major, minor, micro, package: json?["package"]?.string ?? "")
  }

  /// By the three numbers; the distribution's package doesn't count.
  public static func < (a: Self, b: Self) -> Bool {
    (a.major, a.minor, a.micro) < (b.major, b.minor, b.micro)
  }
}

extension QEMUVersion: CustomStringConvertible {
  public var description: String { "\(major).\(minor).\(micro)" }
}
