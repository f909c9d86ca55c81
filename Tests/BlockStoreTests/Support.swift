import Base
import BlockStore
import Foundation
import Glibc
import HostIO
import NBD
import Synchronization

/// A folder that is removed at the end.
final class ScratchFolder: Sendable {
  let path: String
  init() throws {
    path = "/tmp/godwit-block-\(UUID().uuidString.prefix(8))"
    try PrivateDirectory.make(path)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// A file of zeros that has no blocks.
  func image(_ name: String = "disk.raw", byteCount: UInt64) throws -> String {
    let file = path + "/" + name
    guard FileManager.default.createFile(atPath: file, contents: nil),
      truncate(file, off_t(byteCount)) == 0
    else { throw SystemError("make \(file)") }
    return file
  }
}

/// A disk in memory that loses what was not flushed when the power fails; each unflushed write
/// is kept or lost by chance, as on a real one.
final class VolatileStore: DiskStore {
  struct State: Sendable {
    /// What survives.
    var stable: [UInt8]
    /// What is read.
    var current: [UInt8]
    /// Ranges written since the last flush.
    var unflushed: [Range<Int>] = []
    var failsFlushes = false
  }
  let byteCount: UInt64
  let traits: DiskTraits
  private let state: Mutex<State>

  init(byteCount: Int, isPrompt: Bool) {
    self.byteCount = UInt64(byteCount)
    var traits = DiskTraits()
    traits.isPrompt = isPrompt
    self.traits = traits
    let zeros = [UInt8](repeating: 0, count: byteCount)
    state = Mutex(State(stable: zeros, current: zeros))
  }

  /// What is there when the power is back.
  func failPower(_ random: inout SplitMix64) -> [UInt8] {
    state.withLock { state in
      for range in state.unflushed where random.next() % 2 == 0 {
        state.stable.replaceSubrange(range, with: state.current[range])
      }
      return state.stable
    }
  }

  /// The power fails, and is back at once.
  func restart(_ random: inout SplitMix64) {
    let stable = failPower(&random)
    state.withLock { state in
      (state.current, state.unflushed) = (stable, [])
    }
  }

  func failFlushes() { state.withLock { $0.failsFlushes = true } }

  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) {
    state.withLock { state in
      target.copyBytes(from: state.current[Int(offset)..<(Int(offset) + target.count)])
    }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) {
    store(Array(bytes), at: offset, durable: durable)
  }

  private func store(_ copy: [UInt8], at offset: UInt64, durable: Bool) {
    let range = Int(offset)..<(Int(offset) + copy.count)
    state.withLock { state in
      state.current.replaceSubrange(range, with: copy)
      if durable {
        state.stable.replaceSubrange(range, with: copy)
      } else {
        state.unflushed.append(range)
      }
    }
  }

  func flush() throws(StoreError) {
    let fails = state.withLock { state in
      if state.failsFlushes { return true }
      for range in state.unflushed {
        state.stable.replaceSubrange(range, with: state.current[range])
      }
      state.unflushed = []
      return false
    }
    if fails { throw StoreError(.inputOutput, "the flush failed") }
  }

  func zero(at offset: UInt64, count: UInt64, _ options: ZeroOptions) {
    store(
      [UInt8](repeating: 0, count: Int(count)), at: offset, durable: options.contains(.durable))
  }
  func trim(at offset: UInt64, count: UInt64) { zero(at: offset, count: count, []) }
  func status(at offset: UInt64, count: UInt64, extentsMax: Int) -> [NBDExtent] {
    [NBDExtent(length: count, flags: 0)]
  }
}

/// A server on a unix socket of its own.
final class RunningServer: Sendable {
  let server: DiskServer
  let socket: String
  private let folder: ScratchFolder

  init(_ disks: [ServedDisk], _ options: DiskServer.Options = .init()) throws {
    folder = try ScratchFolder()
    socket = folder.path + "/nbd.sock"
    server = DiskServer(disks, options)
    server.serve(try UnixSocket.listen(path: socket))
  }

  convenience init(_ store: any DiskStore) throws {
    try self.init([ServedDisk(name: "disk", store: store)])
  }

  var uri: String { "nbd+unix:///disk?socket=\(socket)" }

  func connect() throws -> RemoteStore {
    try RemoteStore(
      over: UnixSocket.connect(path: socket), exportName: "disk", isReadOnly: false)
  }

  deinit { _ = server.drain(timeoutMs: 2000) }
}

extension DiskStore {
  func bytes(at offset: UInt64, count: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xEE, count: count)
    try bytes.withUnsafeMutableBytes { try read(at: offset, into: $0) }
    return bytes
  }
  func put(_ bytes: [UInt8], at offset: UInt64, durable: Bool = false) throws {
    try bytes.withUnsafeBytes { try write($0, at: offset, durable: durable) }
  }
}

/// Where two disks differ first, or nil: of millions of bytes nobody wants to read all differences, nor to wait for
/// the test to find them.
func difference(_ one: [UInt8], _ other: [UInt8]) -> Int? {
  if one == other { return nil }
  return zip(one, other).enumerated().first { $0.element.0 != $0.element.1 }?.offset
    ?? min(one.count, other.count)
}

extension SplitMix64 {
  mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
  }
}
