/// What a handshake has agreed on; the rules of transmission.
public struct ServerSession: Sendable, Hashable {
  /// As it was agreed on: with the flags that this client may use.
  public let export: NBDExport
  /// The export's place in what the server offers.
  public let index: Int
  public let mode: ReplyMode
  /// Contexts that the client wants to hear of, by the numbers they have on this connection: places
  /// in the export's `contexts`.
  public let contexts: [UInt32]

  public init(export: NBDExport, index: Int, mode: ReplyMode, contexts: [UInt32]) {
    (self.export, self.index, self.mode, self.contexts) = (export, index, mode, contexts)
  }
}
