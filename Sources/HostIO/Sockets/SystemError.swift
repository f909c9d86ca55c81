public import Glibc

/// A system call that failed, with what it was for.
public struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
  /// `errno`.
  public let code: Int32
  /// What was attempted, for people: "connect to 10.0.0.2:4750".
  public let operation: String

  /// With the calling thread's `errno`, so right after the call that failed, unless `code` says
  /// otherwise.
  public init(_ operation: String, code: Int32 = errno) {
    (self.operation, self.code) = (operation, code)
  }

  public var description: String {
    // SAFETY: strerror returns a NUL-terminated string, copied at once.
    let text = unsafe strerror(code).map { unsafe String(cString: $0) }
    return "\(operation): \(text ?? "error \(code)")"
  }
}
