import BlockStore
import HostIO
import NBD

/// A disk whose changes wait while it is told to.
final class HeldWrites: DiskStore {
  private let inner: VolatileStore
  private let state = Guarded((isHeld: false, waitingCount: 0))
  init(_ inner: VolatileStore) { self.inner = inner }
  var byteCount: UInt64 { inner.byteCount }
  var traits: DiskTraits { inner.traits }
  var waitingCount: Int { state.read { $0.waitingCount } }
  func hold(_ isSo: Bool) { state.update { $0.isHeld = isSo } }
  /// Waits until a change waits.
  func untilHeld() {
    while state.wait(
      timeoutMs: 1000, until: { $0.isHeld && $0.waitingCount > 0 ? true : nil }) == nil
    {}
  }
  private func pass() {
    state.update { $0.waitingCount += 1 }
    while state.wait(timeoutMs: 1000, until: { $0.isHeld ? nil : true }) == nil {}
    state.update { $0.waitingCount -= 1 }
  }
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
