import Agent
import Glibc

/// Writes to the standard descriptors.
enum Output {
  static func line(_ text: String) { write(text + "\n", to: 1) }

  static func json(_ value: some Encodable) throws { line(try JSONLine.encode(value)) }

  static func error(_ message: String) { write("godwit: \(TerminalText.plain(message))\n", to: 2) }

  /// Writes everything or, when the reader has gone (`godwit history | head`), ends the process quietly.
  static func write(_ text: String, to descriptor: Int32) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      // SAFETY: the buffer lives for the call, and its own count bounds it.
      let count = unsafe rest.withUnsafeBytes {
        unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
      }
      if count > 0 {
        rest = rest.dropFirst(count)
      } else if errno != EINTR && errno != EAGAIN {
        if errno == EPIPE { exit(0) }
        return
      }
    }
  }
}
