/// What went wrong with one command, or with the connection while the command waited.
public struct QMPError: Error, Hashable, Sendable {
  /// What went wrong, with the command or with its monitor.
  public enum Code: Hashable, Sendable {
    /// QEMU answered with an error of this class (`GenericError`, `CommandNotFound`, …).
    case refused(errorClass: String)
    /// No reply within this many milliseconds. QEMU may still carry the command out.
    case timedOut(afterMs: UInt64)
    /// The monitor was closed, by QEMU's end or by `close()`.
    case disconnected
    /// The caller's task was cancelled. QEMU may still carry the command out.
    case cancelled
    /// Too many commands wait for this monitor.
    case overloaded
    /// What the monitor sent is not QMP.
    case protocolViolation
    /// A reply that lacks what the command promises.
    case unexpectedReply
  }

  /// QEMU's text is cut to this many characters.
  static let detailLengthMax = 2048

  /// The command this error belongs to; `greeting` before the first one.
  public let command: String
  public let code: Code
  /// QEMU's own words where there are any.
  public let detail: String

  /// `detail` is cut to 2048 characters.
  public init(_ code: Code, command: String, detail: String = "") {
    self.code = code
    self.command = command
    self.detail = String(detail.prefix(Self.detailLengthMax))
  }
}

extension QMPError {
  /// Whether this QEMU does not have the command at all.
  public var isCommandNotFound: Bool { code == .refused(errorClass: "CommandNotFound") }
  public var isDisconnected: Bool { code == .disconnected }
}

extension QMPError: CustomStringConvertible {
  public var description: String {
    switch code {
    case .refused(let errorClass):
      errorClass == "GenericError"
        ? "QEMU refused \(command): \(detail)"
        : "QEMU refused \(command) (\(errorClass)): \(detail)"
    case .timedOut(let ms): "\(command): QEMU's monitor did not answer within \(ms) ms"
    case .disconnected:
      "\(command): QEMU's monitor closed the connection" + (detail.isEmpty ? "" : " (\(detail))")
    case .cancelled: "\(command): cancelled while waiting for QEMU's monitor"
    case .overloaded: "\(command): too many commands already wait for QEMU's monitor"
    case .protocolViolation: "\(command): QEMU's monitor sent something that is not QMP: \(detail)"
    case .unexpectedReply: "\(command): QEMU's reply is not what the command promises: \(detail)"
    }
  }
}
