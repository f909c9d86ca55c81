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
    /// Of a guest that moves before its memory, in place of RAM's end and the tail: what it lacks is
    /// named, then it is handed over with its devices' state.
    case invalidPages
    case deviceState([UInt8])
    /// Everything owed goes before what follows; then the rest of the stream passes unread, after
    /// `bytes` have brought the destination's QEMU to the same place.
    case handOver([UInt8])

    var byteCount: Int {
      switch self {
      case .verbatim(let bytes, _), .tail(let bytes), .handOver(let bytes), .deviceState(let bytes):
        bytes.count
      case .ramEnd, .invalidPages: 0
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
    /// QEMU has said that the guest stands still. Where nothing but the gate holds it, it may be completing by itself, and then its
    /// main lock is held: its monitor is silent until all that it writes is read.
    var qemuSaysStopped = false
    /// The stream is within bytes whose number it has told (`PACKAGED`): pages sent now would be taken for some of them.
    var isInPackage = false
    /// QEMU waits because the pen is full: nothing can be held back, or it would wait for ever.
    var penIsFull = false
    /// The guest moves before its memory: what is owed when it stops is named, and not sent from here.
    var pulls = false
    /// Pages of blocks that can't be read once the guest has stopped, by number: these are sent.
    var unreadable: [Range<Int>] = []
    /// Pages taken when the guest was seen stopped, and from then until RAM's END: the stop set.
    var takenAtStop: UInt64?
    var stopSetPages: UInt64?
    /// Pages that the destination is to ask for; nil: none.
    var invalidPages: UInt64?
    var failure: RelayFailure?

    var owedCount: Int { ledger?.owedCount ?? 0 }

    var isReadable: Bool {
      if guestIsStopped || isInPackage { return true }
      return switch gate {
      case .open: true
      case .paced(let pages): lead < pages
      case .closed: qemuSaysStopped
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

  /// Holds pages back from here to the end of a package.
  func setInPackage(_ isInPackage: Bool) { state.update { $0.isInPackage = isInPackage } }

  func setGate(_ gate: Gate) { state.update { $0.gate = gate } }

  /// A closed gate lets QEMU on while it says that the guest stands still.
  func noteQEMUStopped(_ isStopped: Bool) { state.update { $0.qemuSaysStopped = isStopped } }

  /// QEMU's monitor is silent, perhaps for what is not read.
  func openIfClosed() { state.update { if $0.gate == .closed { $0.gate = .open } } }

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
    let take: (inout State) -> Result<[Int32], RelayFailure>? = { state in
      if let failure = state.failure { return .failure(failure) }
      let places = state.pen.reserve()
      state.penIsFull = places.isEmpty
      return places.isEmpty ? nil : .success(places)
    }
    // The first look is an `update`: the picker must hear of a pen that is full.
    let result = state.update(take) ?? state.wait(until: take)
    return try result?.get() ?? []
  }

  /// RAM's END began: the guest is stopped.
  ///
  /// - Returns: whether it moves before its memory, which is settled by now.
  func guestStopped() -> Bool {
    state.update { state -> Bool in
      state.guestIsStopped = true
      state.takenAtStop = state.ledger?.takenCount
      if !state.pulls { state.holdBackHeat = 9 }
      return state.pulls
    }
  }

  /// The guest shall move before its memory; counts until it is stopped.
  ///
  /// - Parameter isReadable: by block, whether its pages can be read then.
  func pull(isReadable: [Bool]) {
    state.update { state in
      guard !state.guestIsStopped, let numbering = state.ledger?.numbering else { return }
      state.pulls = true
      state.unreadable = zip(numbering.bases, numbering.counts).enumerated()
        .compactMap { isReadable[$0.offset] ? nil : $0.element.0..<$0.element.0 + $0.element.1 }
    }
  }

  /// It cannot, after all.
  func pullNothing() { state.update { if !$0.guestIsStopped { $0.pulls = false } } }

  /// Ends the epoch of the dirty log, see `PageLedger.endEpoch`.
  func endEpoch() -> (dirtied: Int, first: Int, newlyOwed: Int) {
    state.update { $0.ledger?.endEpoch() ?? (0, 0, 0) }
  }
}
