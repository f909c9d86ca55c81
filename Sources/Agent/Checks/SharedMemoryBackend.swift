import HostIO
import NIOPosix
public import QMP

/// Guest RAM that the agent can reach itself, because QEMU shares it (`share=on`).
public struct SharedMemoryBackend: Codable, Sendable, Equatable {
  /// The RAM block's name in the migration stream.
  public let blockName: String
  /// Opens the memory: `/proc/PID/fd/N`. Valid while that QEMU lives.
  public let path: String
  /// Of the block's first byte in the file, and the block's length; both in bytes.
  public let offset, length: UInt64

  /// Every RAM block of the QEMU in process `pid` that lies in a shared file, by name.
  ///
  /// The block's address in QEMU is looked up in `/proc/PID/maps`, so two backends of the same size
  /// cannot be taken for each other. Blocks that are not shared, or not found without doubt, are left
  /// out.
  public static func locate(_ client: QMPClient, pid: Int32) async throws -> [SharedMemoryBackend] {
    let blocks = try await client.ramBlocks()
    let shared = try await client.queryMemoryBackends().filter(\.isShared).map(\.id)
    let addresses = try await HostAddresses.find(
      blocks.filter { $0.hostAddress != nil || shared.contains($0.name) }, client)
    return try await NIOThreadPool.singleton.runIfActive {
      guard let mappings = FileMapping.shared(pid: pid) else { return [] }
      return blocks.compactMap { block in
        guard let address = addresses[block.name],
          let range = FileMapping.fileRange(of: address, length: block.usedSize, in: mappings),
          let path = range.file.descriptorPath(pid: pid)
        else { return nil }
        return SharedMemoryBackend(
          blockName: block.name, path: path, offset: range.offset, length: block.usedSize)
      }.sorted { $0.blockName < $1.blockName }
    }
  }
}
