public import Base

/// Why a client can't go on with a server.
public enum ClientError: Error, Sendable, Hashable {
  /// What the server sent isn't the protocol.
  case malformed(DecodeError)
  /// The server has no such export, or doesn't let this client have it.
  case refused(NBDOption, OptionReply, message: String)
}

extension ClientError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .malformed(let error): "the NBD server sent what is no answer: \(error)"
    case .refused(let option, let reply, let message):
      "the NBD server refused \(option)"
        + (message.isEmpty ? " (error \(reply.rawValue & ~(1 << 31)))" : ": \(message)")
    }
  }
}

/// What a client's handshake has agreed on.
public struct ClientSession: Sendable, Hashable {
  /// A metadata context as the server granted it; `id` stands for it in answers about status.
  public struct Context: Sendable, Hashable {
    public let id: UInt32
    public let name: String

    public init(id: UInt32, name: String) { (self.id, self.name) = (id, name) }
  }
  public let byteCount: UInt64
  /// What the server says of the export; empty when nothing.
  public let description: String
  public let flags: ExportFlags
  public let blockSizes: BlockSizes
  public let mode: ReplyMode
  public let contexts: [Context]

  public init(
    byteCount: UInt64, description: String = "", flags: ExportFlags, blockSizes: BlockSizes,
    mode: ReplyMode, contexts: [Context]
  ) {
    (self.byteCount, self.description) = (byteCount, description)
    (self.flags, self.blockSizes) = (flags, blockSizes)
    (self.mode, self.contexts) = (mode, contexts)
  }
}
