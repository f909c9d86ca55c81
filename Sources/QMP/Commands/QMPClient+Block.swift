/// Changes of the block graph.
extension QMPClient {
  /// Adds a node that no device uses yet.
  public func blockdevAdd(_ options: JSONValue) async throws(QMPError) {
    try await execute("blockdev-add", options)
  }

  /// Removes a node that nothing uses any more.
  public func blockdevDel(nodeName: String) async throws(QMPError) {
    try await execute("blockdev-del", ["node-name": .string(nodeName)])
  }

  /// Opens a node anew while it is in use; what isn't said gets its default.
  public func blockdevReopen(_ options: JSONValue) async throws(QMPError) {
    try await execute("blockdev-reopen", ["options": .array([options])])
  }
}
