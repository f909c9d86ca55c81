import Base
import HostIO
public import NBD
import Synchronization

/// A store under the name that clients know it by, with what was done to it.
public final class ServedDisk: Sendable {
  private let ownExport: NBDExport
  public let store: any DiskStore
  let counters = DiskCounters()
  /// Until then the store's calls are not made on connections' own threads, in microseconds.
  private let slowUntilUs = Atomic<UInt64>(0)

  /// A call that took longer was not answered from memory, in microseconds.
  static let promptUs: UInt64 = 1000
  /// How long nothing is tried after such a call.
  static let slowUs: UInt64 = 1_000_000

  /// What clients may do follows from the store's traits as they are now: flags and block sizes
  /// don't change later.
  public init(name: String, description: String = "", store: any DiskStore) {
    self.store = store
    let traits = store.traits
    var flags: ExportFlags = [.sendFlush, .sendFUA, .sendDoNotFragment, .sendCache]
    if traits.isReadOnly {
      flags.insert(.readOnly)
    } else {
      flags.formUnion([.sendWriteZeroes, .sendFastZero])
      if traits.canTrim { flags.insert(.sendTrim) }
    }
    if traits.isCoherent { flags.insert(.canMultiConnect) }
    ownExport = NBDExport(
      name: name, description: description, byteCount: store.byteCount, flags: flags,
      blockSizes: traits.blockSizes,
      contexts: traits.isReadOnly ? store.contexts : store.contexts + [NBDExtent.mover])
  }

  /// By which clients ask for it.
  public var name: String { ownExport.name }

  /// As clients see it now: a disk that moves says so.
  public var export: NBDExport {
    var export = ownExport
    if let note = (store as? MovableStore)?.moveNote { export.description += note }
    return export
  }

  /// As the store has it, and nothing of what is no block's.
  func status(
    of context: String, at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    guard context != NBDExtent.mover else { return [NBDExtent(length: count, flags: 0)] }
    return try store.status(of: context, at: offset, count: count, extentsMax: extentsMax)
  }

  /// Whether a call may be made on the thread that reads requests: as long as none had to wait.
  func isPrompt(_ nowUs: UInt64) -> Bool {
    store.traits.isPrompt && nowUs >= slowUntilUs.load(ordering: .relaxed)
  }

  /// Notes how long such a call took.
  func noteCall(from startUs: UInt64) {
    let nowUs = MonotonicClock.nowUs
    if nowUs - startUs > Self.promptUs {
      slowUntilUs.store(nowUs + Self.slowUs, ordering: .relaxed)
    }
  }
}
