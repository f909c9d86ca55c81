extension QMPClient {
  /// Runs a command and reads its reply with `decode`; nil from it is `unexpectedReply`.
  func query<Value>(
    _ command: String, _ arguments: JSONValue? = nil, timeoutMs: UInt64? = nil,
    decode: (JSONValue) -> Value?
  ) async throws(QMPError) -> Value {
    let reply = try await execute(command, arguments, timeoutMs: timeoutMs)
    guard let value = decode(reply) else {
      throw QMPError(.unexpectedReply, command: command, detail: String(reply.line.prefix(200)))
    }
    return value
  }

  /// Runs a command whose reply is a list. An element that is not understood fails the command:
  /// a vCPU or disk that is silently missing is worse.
  func queryList<Value>(
    _ command: String, _ arguments: JSONValue? = nil, decode: (JSONValue) -> Value?
  ) async throws(QMPError) -> [Value] {
    try await query(command, arguments) { reply in
      guard let elements = reply.array else { return nil }
      var values: [Value] = []
      for element in elements {
        guard let value = decode(element) else { return nil }
        values.append(value)
      }
      return values
    }
  }
}
