import QMP

/// What must hold for a line from a monitor whatever its bytes are: a value that was read is
/// written so that it reads the same, and reading the message never does more than refuse.
public enum QMPLineHarness {
  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    _ = try? QMPMessage.parse(data)
    guard let value = try? JSONParser.parse(data) else { return nil }
    let line = value.line
    guard !line.utf8.contains(0x0A) else { return "a line break within a line" }
    guard let again = try? JSONParser.parse([UInt8](line.utf8)) else {
      return "what was written is not read: \(line)"
    }
    return again == value ? nil : "what was written reads differently: \(line)"
  }
}
