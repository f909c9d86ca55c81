import HostIO
public import QMP

/// Puts a running guest's raw disk behind an NBD server that serves the same file, and takes it back,
/// without stopping the guest and without copying anything.
///
/// At every instant either QEMU or the server writes to the file, through one page cache. So whoever
/// dies, and whenever: the disk is whole. The node of the file stays in QEMU with its locks, for the way back.
public struct DiskPivot: Sendable {
  private let client: QMPClient

  /// How long requests wait for a server that is gone, in seconds: then the guest sees errors.
  static let reconnectSeconds = 30

  public init(_ client: QMPClient) { self.client = client }

  /// Finds a disk by device id, node name or path; throws `GuestDiskError` where there is none, or
  /// one that can't be pivoted without copying.
  public func find(_ name: String) async throws -> GuestDisk {
    try GuestDisk.find(
      name, devices: try await client.queryBlock(), nodes: try await client.queryBlockNodes())
  }

  /// How the raw node is opened anew: QEMU forgets what isn't said.
  static func reopening(_ disk: GuestDisk, child: String, discard: Bool) -> JSONValue {
    let format = disk.format
    return [
      "driver": "raw", "node-name": .string(format.nodeName), "file": .string(child),
      "read-only": .bool(format.isReadOnly), "discard": .string(discard ? "unmap" : "ignore"),
      "detect-zeroes": .string(format.detectZeroes),
      "cache": ["direct": .bool(format.isDirect), "no-flush": .bool(format.ignoresFlushes)],
    ]
  }

  /// Returns how long QEMU took to change over, in microseconds: what the guest's requests may have waited.
  public func attach(
    _ disk: GuestDisk, socket: String, export: String, discard: Bool
  ) async throws -> UInt64 {
    guard disk.place == .file else { throw GuestDiskError.alreadyAttached(disk.format.nodeName) }
    let server = disk.serverNodeName
    try await client.blockdevAdd([
      "driver": "nbd", "node-name": .string(server), "export": .string(export),
      "server": ["type": "unix", "path": .string(socket)],
      "reconnect-delay": .number("\(Self.reconnectSeconds)"),
      "read-only": .bool(disk.format.isReadOnly), "discard": .string(discard ? "unmap" : "ignore"),
      "cache": [
        "direct": .bool(disk.format.isDirect), "no-flush": .bool(disk.format.ignoresFlushes),
      ],
    ])
    do {
      return try await reopen(Self.reopening(disk, child: server, discard: discard))
    } catch {
      try? await client.blockdevDel(nodeName: server)
      throw error
    }
  }

  /// QEMU flushes through the server first. Where the server is gone that would hold up its main loop for
  /// `reconnectSeconds`, so it isn't tried.
  public func detach(_ disk: GuestDisk, discard: Bool) async throws -> UInt64 {
    guard disk.place == .server else { throw GuestDiskError.notAttached(disk.format.nodeName) }
    if let path = disk.serverSocket {
      do {
        try await WorkerThread.run("block-look") { _ = try UnixSocket.connect(path: path) }
      } catch {
        throw GuestDiskError.serverGone(disk.format.nodeName, detail: "\(error)")
      }
    }
    let child = disk.file.nodeName
    let took = try await reopen(Self.reopening(disk, child: child, discard: discard))
    try await client.blockdevDel(nodeName: disk.serverNodeName)
    return took
  }

  private func reopen(_ options: JSONValue) async throws -> UInt64 {
    let startUs = MonotonicClock.nowUs
    try await client.blockdevReopen(options)
    return MonotonicClock.nowUs - startUs
  }
}
