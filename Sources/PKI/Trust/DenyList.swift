import HostIO

/// Certificates that count no more, though they are valid: lost keys, hosts that left.
///
/// One a line: the SHA-256 fingerprint (64 hexadecimal digits) or the serial number (fewer), as
/// `godwit pki show` prints them; colons and a leading `sha256` or `serial` may stand there. `#`
/// starts a comment.
public struct DenyList: Sendable, Hashable {
  static let entriesMax = 100_000

  private var fingerprints: Set<String> = []
  private var serials: Set<String> = []

  public init() {}

  /// One line that is neither a fingerprint nor a serial number refuses the whole list, and so do
  /// more than 100,000 entries.
  ///
  /// - Parameter path: for messages.
  public init(parsing text: String, from path: String) throws(PKIError) {
    var number = 0
    for line in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
      number += 1
      var words = line.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" }
      guard !words.isEmpty else { continue }
      if words.count == 2, ["sha256", "serial"].contains(words[0].lowercased()) {
        words.removeFirst()
      }
      let digits = words[0].filter { $0 != ":" }.lowercased()
      guard words.count == 1, (1...64).contains(digits.utf8.count),
        digits.allSatisfy({ $0.isASCII && $0.isHexDigit })
      else {
        throw PKIError(
          "\(path), line \(number): neither a serial number nor a SHA-256 fingerprint")
      }
      if digits.utf8.count == 64 {
        fingerprints.insert(digits)
      } else {
        serials.insert(HexText.normal(digits))
      }
      guard fingerprints.count + serials.count <= Self.entriesMax else {
        throw PKIError("\(path): more than \(Self.entriesMax) entries")
      }
    }
  }

  /// Reads a file of 1 MiB at most. One that isn't there is an error, not an empty list.
  public static func load(_ path: String) throws(PKIError) -> DenyList {
    try DenyList(parsing: try PrivateFile.readText(path), from: path)
  }

  /// By its serial number, whoever issued it, or by its fingerprint in any form of its signature.
  public func covers(_ certificate: HostCertificate) -> Bool {
    serials.contains(certificate.serial)
      || !fingerprints.isDisjoint(with: SignatureForms.fingerprints(of: certificate))
  }
}
