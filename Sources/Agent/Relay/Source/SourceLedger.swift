import Base
import HostIO
import Strategy
import Wire

/// Between the thread that reads QEMU's stream and the one that picks pages to send: the ledger, the
/// pen, and what must go in the order of the stream.
final class SourceLedger: Sendable {
  /// When the stream is read.
  enum Gate: Sendable, Hashable {
    /// Everything QEMU writes, at once.
    case open
    /// As fast as pages are sent, and so many ahead: QEMU goes at the pace of the link.
    case paced(pages: Int)
    /// Nothing: QEMU blocks, the guest runs on.
    case closed
  }

  /// What keeps its place in the stream.
  enum Ordered: Sendable {
    /// - Parameter inWindow: it may be long and waits for room in the window.
    case verbatim([UInt8], inWindow: Bool)
    case ramEnd
    case tail([UInt8])
    /// Everything owed goes before what follows; then the rest of the stream passes unread, after
    /// `bytes` have brought the destination's QEMU to the same place.
    case handOver([UInt8])

    var byteCount: Int {
      switch self {
      case .verbatim(let bytes, _), .tail(let bytes), .handOver(let bytes): bytes.count
      case .ramEnd: 0
      }
    }
  }

  struct State: Sendable {
    /// Nil before the stream named its RAM blocks.
    var ledger: PageLedger?
    var pen: PagePen
    /// Blocks whose bytes are read from shared memory, by number.
    var blockIsShared: [Bool] = []
    var ordered: [Ordered] = []
    var orderedBytes = 0
    var gate = Gate.paced(pages: SourceLedger.pacePages)
    /// Dirty pages of this heat or hotter wait.
    var holdBackHeat: UInt8 = 9
    /// Share of the scan, in thousandths, and how far it is ahead of it.
    var scanPermille: Int = 500
    var scanLead = 0
    /// Mentions not made up for by pages sent.
    var lead = 0
    var guestIsStopped = false
    /// Pages taken when the guest was seen stopped, and from then until RAM's END: the stop set.
    var takenAtStop: UInt64?
    var stopSetPages: UInt64?
    var failure: RelayFailure?

    var owedCount: Int { ledger?.owedCount ?? 0 }

    var isReadable: Bool {
      if guestIsStopped { return true }
      return switch gate {
      case .open: true
      case .paced(let pages): lead < pages
      case .closed: false
      }
    }
  }

  /// Pages that wait at most while QEMU goes at the pace of the link: little, for they are sent while
  /// the guest is stopped if QEMU stops it then.
  static let pacePages = 2048
  /// Bytes in order that wait at most while the guest runs.
  static let orderedBytesMax = 8 << 20

  let state: Guarded<State>
  /// As given to `init`, in bytes.
  let memoryLimit: UInt64

  /// - Parameter memoryLimit: memory for the pen.
  init(memoryLimit: UInt64) {
    self.memoryLimit = memoryLimit
    state = Guarded(State(pen: PagePen(byteLimit: memoryLimit)))
  }

  func setGate(_ gate: Gate) { state.update { $0.gate = gate } }

  /// Waits until the stream is to be read on, or the relay has failed.
  func waitForGate() {
    _ = state.wait { $0.isReadable || $0.failure != nil ? true : nil }
  }

  func fail(_ failure: RelayFailure) {
    state.update { $0.failure = $0.failure ?? failure }
  }

  /// The stream named its blocks.
  func setBlocks(_ pages: [Int], isShared: [Bool]) {
    state.update { state in
      state.ledger = PageLedger(blockPages: pages)
      state.blockIsShared = isShared
    }
  }

  /// Appends what keeps its place. Blocks while too much of it waits and the guest runs.
  func append(_ item: Ordered) throws(RelayFailure) {
    let failure = state.wait { state -> RelayFailure?? in
      if let failure = state.failure { return .some(failure) }
      guard state.guestIsStopped || state.orderedBytes < Self.orderedBytesMax else { return nil }
      state.ordered.append(item)
      state.orderedBytes += item.byteCount
      return .some(nil)
    }
    if let failure = failure ?? nil { throw failure }
  }

  /// A page that the stream mentioned.
  struct Mention: Sendable {
    let number: Int
    let isZero: Bool
    /// Where its bytes are in the pen; nil for shared memory and zeros.
    let place: Int32?
  }

  /// Takes mentions in, in the order of the stream.
  func note(_ mentions: [Mention], inline: Bool) {
    state.update { state in
      for mention in mentions {
        state.ledger?.note(mention.number, isZero: mention.isZero)
        if inline { state.pen.put(mention.number, at: mention.place) }
      }
      state.lead += mentions.count
    }
  }

  /// Places for pages that arrive in the stream; waits while the pen is full.
  func reservePlaces() throws(RelayFailure) -> [Int32] {
    let result = state.wait { state -> Result<[Int32], RelayFailure>? in
      if let failure = state.failure { return .failure(failure) }
      let places = state.pen.reserve()
      return places.isEmpty ? nil : .success(places)
    }
    return try result?.get() ?? []
  }

  /// RAM's END began: the guest is stopped.
  func guestStopped() {
    state.update { state in
      state.guestIsStopped = true
      state.holdBackHeat = 9
      state.takenAtStop = state.ledger?.takenCount
    }
  }

  /// Ends the epoch of the dirty log, see `PageLedger.endEpoch`.
  func endEpoch() -> (dirtied: Int, first: Int, newlyOwed: Int) {
    state.update { $0.ledger?.endEpoch() ?? (0, 0, 0) }
  }
}
