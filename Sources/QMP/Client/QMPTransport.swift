/// Carries lines to the monitor. What comes back is handed to `QMPClient.receive` by whoever owns
/// the connection, in order.
public protocol QMPTransport: Sendable {
  /// Queues one line, to be ended by a line feed; never blocks. False: the connection is closed.
  func send(_ line: String) -> Bool
  /// Ends the connection; the owner then calls `QMPClient.connectionClosed`.
  func close()
}

/// Calls back later. The client has no clock of its own.
public protocol QMPTimer: Sendable {
  /// Calls `action` once, `milliseconds` from now, unless the returned function is called first.
  func schedule(
    afterMs milliseconds: UInt64, _ action: @escaping @Sendable () -> Void
  ) -> @Sendable () -> Void
}
