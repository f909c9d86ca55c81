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

  /// Sets the size of what a node has, in bytes.
  public func blockResize(nodeName: String, byteCount: UInt64) async throws(QMPError) {
    try await execute(
      "block_resize", ["node-name": .string(nodeName), "size": JSONValue(byteCount)])
  }

  /// Opens a node anew while it is in use; what isn't said gets its default.
  public func blockdevReopen(_ options: JSONValue) async throws(QMPError) {
    try await execute("blockdev-reopen", ["options": .array([options])])
  }
}

/// Images on top of one another.
extension QMPClient {
  /// Of each device that has, or can have, a medium.
  public func queryBlockLineages() async throws(QMPError) -> [BlockLineage] {
    try await queryList("query-blockstats", decode: BlockLineage.init)
  }

  /// Of each node, without what is behind it.
  public func queryNodeLineages() async throws(QMPError) -> [BlockLineage] {
    try await queryList("query-blockstats", ["query-nodes": true], decode: BlockLineage.init)
  }

  /// Begins to write an empty qcow2 image to a node. The job stays after its end until it is dismissed.
  ///
  /// - Parameters:
  ///   - byteCount: what a guest can address.
  ///   - backing: path of the qcow2 image behind it, for whoever opens the new one later.
  public func createQcow2(
    job: String, file: String, byteCount: UInt64, backing: String
  ) async throws(QMPError) {
    try await execute(
      "blockdev-create",
      [
        "job-id": .string(job),
        "options": [
          "driver": "qcow2", "file": .string(file), "size": JSONValue(byteCount),
          "backing-file": .string(backing), "backing-fmt": "qcow2",
        ],
      ])
  }

  /// Puts an image that has nothing behind it on top of the one that a device uses.
  public func blockdevSnapshot(node: String, overlay: String) async throws(QMPError) {
    try await execute(
      "blockdev-snapshot", ["node": .string(node), "overlay": .string(overlay)])
  }

  /// Begins to copy what is in a device's uppermost image to one behind it, and goes on with what the guest writes. Told
  /// to complete, it has both the same with the guest's requests held, is `pending`, and changes over when it is
  /// finalized. It stays after its end until it is dismissed.
  public func blockCommit(job: String, device: String, base: String) async throws(QMPError) {
    try await execute(
      "block-commit",
      [
        "job-id": .string(job), "device": .string(device), "base-node": .string(base),
        "auto-finalize": .bool(false), "auto-dismiss": .bool(false),
      ])
  }
}
