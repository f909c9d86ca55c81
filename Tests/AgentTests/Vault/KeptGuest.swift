import Base
import Compaction
import Foundation
import HostIO
import QEMUStream
import Strategy
import Testing

@testable import Agent

/// Memory of a guest that can be written to, and kept in a vault in a folder of its own.
final class KeptGuest {
  let blocks: [RAMBlock]
  let files: [SharedFile]
  let folder: String
  private let memories: [MemoryFile]

  init(_ blocks: [RAMBlock]) throws {
    self.blocks = blocks
    memories = try blocks.map { try MemoryFile(byteCount: Int($0.length), sealed: true) }
    files = try zip(memories, blocks).map { memory, block in
      try SharedFile(path: memory.path, offset: 0, length: block.length, writable: true)
    }
    folder =
      FileManager.default.temporaryDirectory.appending(
        path: "gw-vault-\(UUID().uuidString)"
      ).path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  func vault(quotaBytes: UInt64 = 1 << 30) -> Vault {
    Vault(directory: folder + "/state/vault", quotaBytes: quotaBytes)
  }

  func keeper(_ vault: Vault, guest: String = "web-1", uuid: String = "u-1") -> MemoryKeeper {
    MemoryKeeper(
      vault: vault,
      memory: StoppedMemory(
        numbering: PageNumbering(blockPages: blocks.map(\.pageCount)),
        places: files.map { .file($0) }),
      blocks: blocks, guest: guest, uuid: uuid)
  }

  @discardableResult
  func keep(
    in vault: Vault, guest: String = "web-1", uuid: String = "u-1",
    isCalledOff: () -> Bool = { false }
  ) throws -> MigrationRecord.Kept {
    try keeper(vault, guest: guest, uuid: uuid).keep(isCalledOff: isCalledOff) { _ in }
  }

  /// Fills pages with what a seed gives, so that each page is different.
  func fill(_ pages: some Sequence<Int>, block: Int = 0, seed: UInt64) throws {
    for page in pages {
      try Self.content(page, seed: seed).withUnsafeBytes {
        try files[block].write($0, at: UInt64(page) << 12)
      }
    }
  }

  static func content(_ page: Int, seed: UInt64) -> [UInt8] {
    var random = SplitMix64(seed: seed &* 1_000_003 &+ UInt64(page))
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Page.size)
    while bytes.count < Page.size { bytes.appendBE(random.next()) }
    return bytes
  }
}
