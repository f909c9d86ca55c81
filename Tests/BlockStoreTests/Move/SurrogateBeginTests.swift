import Base
import DiskStrategy
import Foundation
import HostIO
import NBD
import Testing

@testable import BlockStore

/// A surrogate that comes into use while the disk is written to.
@Suite struct SurrogateBeginTests {
  private let folder = try! ScratchFolder()

  /// What is read while a write that began before isn't done is no copy of its blocks.
  @Test(.timeLimit(.minutes(1)), arguments: [false, true])
  func aWriteThatBeganBefore(isZero: Bool) async throws {
    let original = HeldStore(VolatileStore(byteCount: 4 << 20, isPrompt: false))
    try original.put([UInt8](repeating: 1, count: 4 << 20), at: 0)
    let surrogate = FailingSurrogate()
    let disk = OutsourcedStore(original, name: "disk") { _ in }
    try await WorkerThread.run("use") {
      original.hold()
      let isDone = Guarded(false)
      try disk.begin(
        surrogate.wish, SurrogateLink.make(surrogate.place),
        path: folder.path + "/disk.map.surrogate", identity: "one"
      ) {
        _ = WorkerThread("write") {
          if isZero {
            try? disk.zero(at: 0, count: 2 << 20, [])
          } else {
            try? disk.put([UInt8](repeating: 2, count: 8192), at: 0)
          }
          isDone.update { $0 = true }
        }
        original.untilHeld()
      }
      for _ in 0..<4 {
        #expect(try disk.bytes(at: 0, count: 4096) == [UInt8](repeating: 1, count: 4096))
      }
      original.letGo()
      while isDone.wait(until: { $0 ? true : nil }) == nil {}
      // Copies are made one after the other: with this one, whatever there was before it has been, too.
      let other = 3 << 20
      while !disk.state.read({ $0.index.kept[other / 4096] }) {
        _ = try disk.bytes(at: UInt64(other), count: 4096)
        MonotonicClock.sleep(us: 1000)
      }
      let value: UInt8 = isZero ? 0 : 2
      #expect(try disk.bytes(at: 0, count: 4096) == [UInt8](repeating: value, count: 4096))
      disk.giveBack()
      while disk.isInUse || disk.state.read({ $0.keeperCount > 0 }) {
        MonotonicClock.sleep(us: 1000)
      }
    }
  }
}

/// A disk on which changes wait until they are let go.
private final class HeldStore: DiskStore {
  private struct State: Sendable {
    var holds = false
    var held = 0
  }
  private let inner: VolatileStore
  private let state = Guarded(State())

  init(_ inner: VolatileStore) { self.inner = inner }

  func hold() { state.update { $0.holds = true } }
  func letGo() { state.update { $0.holds = false } }
  /// Waits until one has come.
  func untilHeld() { while state.wait(until: { $0.held > 0 ? true : nil }) == nil {} }

  private func pass() {
    state.update { if $0.holds { $0.held += 1 } }
    while state.wait(until: { $0.holds ? nil : true }) == nil {}
  }

  var byteCount: UInt64 { inner.byteCount }
  var traits: DiskTraits { inner.traits }
  func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) {
    inner.read(at: offset, into: target)
  }
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, durable: Bool) {
    pass()
    inner.write(bytes, at: offset, durable: durable)
  }
  func flush() throws(StoreError) { try inner.flush() }
  func zero(at offset: UInt64, count: UInt64, _ options: ZeroOptions) {
    pass()
    inner.zero(at: offset, count: count, options)
  }
  func trim(at offset: UInt64, count: UInt64) { inner.trim(at: offset, count: count) }
  func status(at offset: UInt64, count: UInt64, extentsMax: Int) -> [NBDExtent] {
    inner.status(at: offset, count: count, extentsMax: extentsMax)
  }
}
