import Agent

/// Follows what a server does with a disk, on one line of a terminal.
enum BlockFollow {
  /// Between two looks, and between two lines where there is no terminal, in milliseconds.
  private static let lookMs = 200
  private static let lineEvery = 10

  /// To its end, or to where it can't go on by itself.
  ///
  /// - Parameters:
  ///   - what: `move` or `pull`.
  ///   - look: asks the server; nil: it knows of none.
  ///   - end: nil: it goes on.
  static func follow<Status: Encodable>(
    _ what: String, json: Bool, look: () async throws -> Status?, line: (Status) -> String,
    end: (Status) -> ExitStatus?
  ) async throws -> (status: Status, exit: ExitStatus) {
    var shown = StatusLine()
    var count = 0
    while true {
      guard let status = try await look() else {
        throw ControlError(.failed, "the server knows nothing of the \(what)")
      }
      if let exit = end(status) {
        shown.clear()
        return (status, exit)
      }
      shown.show(line(status))
      if json, count.isMultiple(of: lineEvery) { try Output.json(status) }
      count += 1
      try await Task.sleep(for: .milliseconds(lookMs))
    }
  }
}
