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
    let original = HeldWrites(VolatileStore(byteCount: 4 << 20, isPrompt: false))
    try original.put([UInt8](repeating: 1, count: 4 << 20), at: 0)
    let surrogate = FailingSurrogate()
    let disk = OutsourcedStore(original, name: "disk") { _ in }
    try await WorkerThread.run("use") {
      original.hold(true)
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
      original.hold(false)
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
