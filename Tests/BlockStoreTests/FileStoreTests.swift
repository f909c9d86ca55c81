import Base
import BlockStore
import Foundation
import Glibc
import HostIO
import NBD
import Testing

@Suite struct FileStoreTests {
  let folder = try! ScratchFolder()

  @Test func statusTellsHolesFromData() throws {
    let path = try folder.image(byteCount: 1 << 20)
    let store = try FileStore(path: path)
    try store.put([UInt8](repeating: 7, count: 65536), at: 131072)
    let extents = try store.status(at: 0, count: 1 << 20, extentsMax: 100)
    #expect(
      extents == [
        NBDExtent(length: 131072, flags: 3), NBDExtent(length: 65536, flags: 0),
        NBDExtent(length: (1 << 20) - 196608, flags: 3),
      ])
    #expect(try store.status(at: 140000, count: 10, extentsMax: 1) == [.init(length: 10, flags: 0)])
    #expect(try store.status(at: 0, count: 1 << 20, extentsMax: 1).count == 1)
  }

  @Test func zeroAndTrimGiveSpaceBackUnlessItIsKept() throws {
    let path = try folder.image(byteCount: 1 << 20)
    let store = try FileStore(path: path)
    func blocks() -> Int {
      var status = stat()
      stat(path, &status)
      return Int(status.st_blocks)
    }
    try store.put([UInt8](repeating: 7, count: 1 << 20), at: 0)
    try store.flush()
    let full = blocks()
    try store.zero(at: 0, count: 1 << 19, [.keepsSpace, .durable])
    #expect(blocks() == full)
    try store.zero(at: 0, count: 1 << 18, [])
    #expect(blocks() < full)
    try store.trim(at: 0, count: 1 << 20)
    #expect(blocks() < 16)
    #expect(try store.bytes(at: 0, count: 1 << 19) == [UInt8](repeating: 0, count: 1 << 19))
  }

  @Test func partsOfPagesAreZeroed() throws {
    let store = try FileStore(path: try folder.image(byteCount: 16384))
    try store.put([UInt8](repeating: 9, count: 16384), at: 0)
    try store.zero(at: 100, count: 9000, [])
    let bytes = try store.bytes(at: 0, count: 16384)
    #expect(bytes[..<100].allSatisfy { $0 == 9 } && bytes[9100...].allSatisfy { $0 == 9 })
    #expect(bytes[100..<9100].allSatisfy { $0 == 0 })
  }

  @Test func whoWritesIsAlone() throws {
    let path = try folder.image(byteCount: 4096)
    var readOnly = FileStore.Options()
    readOnly.isReadOnly = true
    var inUse = FileStore.Options()
    inUse.isInUse = true
    do {
      let writer = try FileStore(path: path)
      #expect(throws: SystemError.self) { try FileStore(path: path) }
      #expect(throws: SystemError.self) { try FileStore(path: path, readOnly) }
      _ = try FileStore(path: path, inUse)
      _ = writer.byteCount
    }
    // The locks have gone with the writer.
    let readers = [try FileStore(path: path, readOnly), try FileStore(path: path, readOnly)]
    #expect(throws: SystemError.self) { try FileStore(path: path) }
    #expect(readers.count == 2)
  }

  @Test func directNeedsWholePages() throws {
    var direct = FileStore.Options()
    direct.isDirect = true
    let odd = try folder.image("odd.raw", byteCount: 5000)
    #expect(throws: SystemError.self) { try FileStore(path: odd, direct) }
    let store = try FileStore(path: try folder.image(byteCount: 65536), direct)
    #expect(store.traits.blockSizes.minimum == 4096 && !store.traits.isPrompt)
    let buffer = PageBuffer(byteCount: 4096)
    buffer.part(0, 4096).initializeMemory(as: UInt8.self, repeating: 5)
    try store.write(UnsafeRawBufferPointer(buffer.part(0, 4096)), at: 8192, durable: true)
    buffer.part(0, 4096).initializeMemory(as: UInt8.self, repeating: 0)
    try store.read(at: 8192, into: buffer.part(0, 4096))
    #expect(Array(buffer.part(0, 4096)) == [UInt8](repeating: 5, count: 4096))
  }

  @Test func whatIsNoDiskIsRefused() throws {
    #expect(throws: SystemError.self) { try FileStore(path: folder.path) }
    #expect(throws: SystemError.self) { try FileStore(path: folder.path + "/nothing") }
    #expect(throws: SystemError.self) { try FileStore(path: "/dev/null") }
  }

  /// A durable write that finds no room has lost nothing: the guest may try again, and its flushes mean what they say.
  @Test(.enabled(if: geteuid() == 0, "only root may mount")) func noRoomLosesNothing() throws {
    let place = folder.path + "/full"
    try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
    try #require(mount("tmpfs", place, "tmpfs", 0, "size=256k") == 0)
    defer { umount2(place, Int32(MNT_DETACH)) }
    let path = place + "/disk.raw"
    try #require(FileManager.default.createFile(atPath: path, contents: nil))
    try #require(truncate(path, 1 << 20) == 0)
    let store = try FileStore(path: path)
    let block = [UInt8](repeating: 1, count: 1 << 18)
    try store.put([UInt8](repeating: 2, count: 65536), at: 0)
    let error = #expect(throws: StoreError.self) {
      try store.put(block, at: 1 << 19, durable: true)
    }
    #expect(error?.code == .noSpace)
    try store.put([UInt8](repeating: 3, count: 65536), at: 0, durable: true)
    try store.flush()
  }

  /// A file that shrinks under the server gives errors, no invented bytes.
  @Test func aFileThatShrinks() throws {
    let path = try folder.image(byteCount: 65536)
    let store = try FileStore(path: path)
    truncate(path, 4096)
    #expect(throws: StoreError.self) { try store.bytes(at: 8192, count: 4096) }
    #expect(store.byteCount == 65536)
  }
}
