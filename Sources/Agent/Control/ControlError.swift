/// Why a control request was not carried out; travels over the control socket.
public struct ControlError: Error, Codable, Sendable, Equatable {
  /// Why, as far as a script has to tell it apart.
  public enum Code: String, Codable, Sendable {
    /// The request makes no sense: unknown command, value out of range.
    case usage
    /// The agent will not do it; the message names the cause and the remedy.
    case refused
    /// It was tried and went wrong.
    case failed
    /// No agent answers at the socket.
    case noAgent
    /// The other end does not speak this protocol.
    case protocolMismatch
  }

  public var code: Code
  /// One line for a person; no secrets, no control characters.
  public var message: String

  public init(_ code: Code, _ message: String) { (self.code, self.message) = (code, message) }

  /// The error as it is sent: known ones unchanged, any other as `failed` with its description.
  public init(wrapping error: any Error) {
    self = error as? ControlError ?? ControlError(.failed, TerminalText.plain("\(error)"))
  }

  /// What a command that ends with this error exits with.
  public var exitStatus: ExitStatus {
    switch code {
    case .usage: .usage
    case .refused: .refused
    case .failed, .noAgent, .protocolMismatch: .failed
    }
  }
}

extension ControlError: CustomStringConvertible {
  public var description: String { message }
}
