import HostIO

/// Turns a connected socket into the connection that two agents talk over.
struct PeerSecurity: Sendable {
  init(_ configuration: AgentConfiguration) {}

  /// The side that connected, to `host`.
  func client(
    _ socket: StreamSocket, host: String, timeoutMs: UInt64
  ) throws -> any ByteConnection { socket }

  /// The side that was connected to.
  func server(_ socket: StreamSocket, timeoutMs: UInt64) throws -> any ByteConnection { socket }
}
