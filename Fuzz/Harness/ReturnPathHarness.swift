import Base
import QEMUStream

/// What must hold for a `ReturnPathReader` whatever the bytes are: any cut gives the same
/// messages, and encoding them gives the bytes they were read from.
public enum ReturnPathHarness {
  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    guard let first = data.first else { return nil }
    let bytes = Array(data.dropFirst())
    let split = read(bytes, chunk: Int(first) % 13 + 1)
    let whole = read(bytes, chunk: max(bytes.count, 1))
    // Messages before a faulty one are lost with their chunk, so only the error is compared.
    guard whole.error == split.error else {
      return "cut differently, \(whole.error as Any) became \(split.error as Any)"
    }
    if whole.error == nil, whole.messages != split.messages {
      return "cut differently, other messages"
    }
    var encoded: [UInt8] = []
    for message in split.messages { message.encode(into: &encoded) }
    return encoded[...] == bytes.prefix(encoded.count) ? nil : "encoded again, other bytes"
  }

  private static func read(
    _ bytes: [UInt8], chunk: Int
  ) -> (messages: [ReturnPathMessage], error: DecodeError?) {
    var reader = ReturnPathReader()
    var messages: [ReturnPathMessage] = []
    var at = 0
    do throws(DecodeError) {
      while at < bytes.count {
        let end = min(at + chunk, bytes.count)
        messages += try reader.receive(bytes.span.bytes.extracting(at..<end))
        at = end
      }
    } catch { return (messages, error) }
    return (messages, nil)
  }
}
