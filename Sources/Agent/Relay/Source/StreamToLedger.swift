import Base
import HostIO
import QEMUStream
import Strategy
import Wire

/// Reads QEMU's stream as a log of which pages changed: the visitor of the source's reader thread.
struct StreamToLedger: StreamVisitor {
  /// Mentions gathered before the ledger is told.
  private static let gatherMax = 512

  private let ledger: SourceLedger
  private let control: ControlLane
  /// Guest memory that is read directly, by block name; of blocks that are missing the stream's bytes are kept.
  private let memory: [String: GuestPlace]
  private let onEvent: @Sendable (StreamEvent) -> Void
  private let buffer: PageBuffer

  private var blocks: [RAMBlock] = []
  private var blockIsShared: [Bool] = []
  private var bases: [Int] = []
  private var sectionID: UInt32 = 0
  private var mentions: [SourceLedger.Mention] = []
  private var mentionsAreInline = false
  /// Places in the pen for the next pages.
  private var places: [Int32] = []
  /// The last page mentioned: block, offset, and its place in the pen or nil.
  private var lastPage: (block: Int, offset: UInt64, isZero: Bool)?
  private var lastBytes = [UInt8](repeating: 0, count: Page.size)
  /// The RAM section that the stream is inside of.
  private var openSection: SectionKind?
  private(set) var failure: RelayFailure?
  /// The destination may be asked to take the guest before its memory.
  private let mayPull: Bool
  private var isAdvised = false
  /// It is; nothing of the stream's tail is passed on before all of it is here.
  private var pulls = false
  private var tailBytes: [UInt8] = []
  /// Bytes of the package that are still to come.
  private var packageLeft = 0
  private var globalState = GlobalStateScanner()

  init(
    ledger: SourceLedger, control: ControlLane, memory: [String: GuestPlace], mayPull: Bool,
    onEvent: @escaping @Sendable (StreamEvent) -> Void
  ) {
    (self.ledger, self.control, self.memory, self.onEvent) = (ledger, control, memory, onEvent)
    self.mayPull = mayPull
    buffer = ledger.state.read { $0.pen.buffer }
    mentions.reserveCapacity(Self.gatherMax)
  }

  mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) throws(VisitorStopped) {
    // Without a length of its own: as long as the guest's RAM, after a hand-over.
    let isLong = item == .opaque || item == .packaged
    if case .command = item, mayPull, case .postcopyAdvise(nil)? = try? StreamCommand(record: bytes)
    {
      // Of dirty bitmaps alone: a QEMU that is to take memory after the guest refuses it, and hears below what it needs.
      return
    }
    if mayPull, blocks.isEmpty, !isAdvised, case .section(.start, _, "ram") = item {
      // Post-copy may follow; the source's QEMU knows nothing of it.
      isAdvised = true
      var advice: [UInt8] = []
      PostcopyWriter.advise(opensReturnPath: false, into: &advice)
      try append(.verbatim(advice, inWindow: false))
    }
    if case .command = item, case .packaged(let length)? = try? StreamCommand(record: bytes) {
      packageLeft = Int(length)
      ledger.setInPackage(packageLeft > 0)
    }
    try append(.verbatim(Self.copy(bytes), inWindow: isLong))
    if item == .packaged {
      packageLeft -= bytes.byteCount
      if packageLeft <= 0 { ledger.setInPackage(false) }
    }
  }

  mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) throws(VisitorStopped) {
    let pages = blocks.reduce(0) { $0 + UInt64($1.pageCount) }
    let needed = PageLedger.byteCount(pages: pages)
    guard needed <= ledger.memoryLimit else {
      let text = "\(needed >> 20) MiB to keep track of the guest's RAM"
      return try carry(.failure(.memory("\(text) are over the memory limit of the agent")))
    }
    (self.blocks, self.sectionID) = (blocks, sectionID)
    blockIsShared = blocks.map { block in
      memory[block.name].map { $0.pageCount >= UInt64(block.pageCount) } ?? false
    }
    bases = PageNumbering(blockPages: blocks.map(\.pageCount)).bases
    ledger.setBlocks(blocks.map(\.pageCount), isShared: blockIsShared)
    onEvent(.layout(blocks, sectionID: sectionID))
    try carry(
      Result { () throws(RelayFailure) in
        try control.send(.message, try PeerMessage.layout(blocks, sectionID: sectionID).encoded())
      })
    // An empty step behind the layout: batches wait for it, so none is applied before the layout.
    try append(.verbatim([], inWindow: false))
  }

  mutating func ramPartBegan() throws(VisitorStopped) { openSection = .part }

  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) throws(VisitorStopped) {
    let isShared = blockIsShared[block]
    try gather(inline: !isShared)
    var place: Int32?
    if !isShared {
      if places.isEmpty {
        // The picker can free no place for pages it has not heard of.
        try flush()
        try carry(Result { () throws(RelayFailure) in places = try ledger.reservePlaces() })
      }
      let next = places.removeLast()
      buffer.store(bytes, at: Int(next) * Page.size)
      place = next
    }
    add(block, offset, isZero: false, place)
  }

  mutating func zeroPage(block: Int, offset: UInt64) throws(VisitorStopped) {
    try gather(inline: !blockIsShared[block])
    add(block, offset, isZero: true, nil)
  }

  mutating func ramPartEnded() throws(VisitorStopped) {
    openSection = nil
    try flush()
  }

  mutating func ramEndBegan() throws(VisitorStopped) {
    openSection = .end
    pulls = ledger.guestStopped()
    let unreadable = ledger.state.read { $0.unreadable }
    // From now on its pages are read where they are: they change no more, and a full pen must not stop
    // a QEMU whose guest stands still.
    if pulls {
      for (block, base) in bases.enumerated()
      where !unreadable.contains(where: { $0.contains(base) }) {
        blockIsShared[block] = true
      }
    }
    onEvent(.guestStopped)
  }

  mutating func ramEnded() throws(VisitorStopped) {
    openSection = nil
    try append(pulls ? .invalidPages : .ramEnd)
  }

  mutating func tail(_ bytes: RawSpan) throws(VisitorStopped) {
    lookForRunState(bytes)
    guard pulls else { return try append(.tail(Self.copy(bytes))) }
    guard tailBytes.count + bytes.byteCount <= PullEntrance.deviceStateMax else {
      return try carry(.failure(.memory("the devices' state is too long for post-copy")))
    }
    tailBytes += Self.copy(bytes)
  }

  private mutating func lookForRunState(_ bytes: RawSpan) {
    let before = globalState.runState
    globalState.scan(bytes)
    let state = globalState.runState
    guard state != before else { return }
    // A guest that sleeps is neither; it arrives as it was at the beginning.
    onEvent(.runState(isRunning: state.flatMap { $0 == "suspended" ? nil : $0 == "running" }))
  }

  mutating func ended(descriptionLength: Int) throws(VisitorStopped) {
    try flush()
    if pulls {
      do {
        let state = try DeviceState(tail: tailBytes, descriptionLength: descriptionLength)
        tailBytes = []
        try append(.deviceState(state.bytes))
      } catch let error as VisitorStopped { throw error } catch {
        try carry(.failure(.qemu("\(error)")))
      }
    }
    onEvent(.ended)
  }

  mutating func handedOver(
    _ reason: HandoverReason, at offset: UInt64, lastBlock: Int?
  ) throws(VisitorStopped) {
    try flush()
    // What isn't read can't be named as missing.
    ledger.pullNothing()
    // The records that follow may say "same block as before" and may stand in the middle of a
    // section. The destination's QEMU has seen other sections than the source's wrote, so it is
    // brought to the same place: the section opened, the last page said once more by name.
    var bytes: [UInt8] = []
    var writer = RAMWriter(sectionID: sectionID, blocks: blocks)
    if lastPage != nil || openSection != nil {
      if openSection == .end {
        writer.beginEnd(into: &bytes)
      } else {
        writer.beginPart(into: &bytes)
      }
      if let lastPage {
        if lastPage.isZero {
          writer.zeroPage(block: lastPage.block, offset: lastPage.offset, into: &bytes)
        } else {
          writer.pageHeader(block: lastPage.block, offset: lastPage.offset, into: &bytes)
          bytes += lastBytes
        }
      }
      if openSection == nil { writer.endSection(into: &bytes) }
    }
    // Before anything of it goes: whoever doesn't want it so says why, and not what becomes of it elsewhere.
    onEvent(.handedOver("\(reason) at byte \(offset)"))
    try append(.handOver(bytes))
    ledger.setGate(.open)
  }

  private mutating func add(_ block: Int, _ offset: UInt64, isZero: Bool, _ place: Int32?) {
    let number = bases[block] + Int(offset >> UInt64(Page.shift))
    mentions.append(.init(number: number, isZero: isZero, place: place))
    lastPage = (block, offset, isZero)
  }

  /// Makes room for one more mention of the given kind.
  private mutating func gather(inline: Bool) throws(VisitorStopped) {
    if mentions.count >= Self.gatherMax || inline != mentionsAreInline { try flush() }
    mentionsAreInline = inline
  }

  /// Tells the ledger what was gathered; keeps the last page by value, for a hand-over.
  private mutating func flush() throws(VisitorStopped) {
    guard let last = mentions.last else { return }
    if let lastPage, !last.isZero { try remember(lastPage.block, lastPage.offset, last.place) }
    ledger.note(mentions, inline: mentionsAreInline)
    mentions.removeAll(keepingCapacity: true)
  }

  private mutating func remember(
    _ block: Int, _ offset: UInt64, _ place: Int32?
  ) throws(VisitorStopped) {
    if let place {
      lastBytes = unsafe Array(buffer.part(Int(place) * Page.size, Page.size))
      return
    }
    guard let memory = memory[blocks[block].name] else { return }
    do {
      // SAFETY: the buffer lives for the call, and its own count bounds it.
      try unsafe lastBytes.withUnsafeMutableBytes { raw in
        try unsafe memory.read(page: offset >> UInt64(Page.shift), into: raw)
      }
    } catch {
      try carry(.failure(.memory("\(error)")))
    }
  }

  private mutating func append(_ item: SourceLedger.Ordered) throws(VisitorStopped) {
    try flush()
    try carry(Result { () throws(RelayFailure) in try ledger.append(item) })
  }

  private static func copy(_ bytes: RawSpan) -> [UInt8] {
    unsafe bytes.withUnsafeBytes { unsafe Array($0) }
  }

  /// Keeps a failure for the reader's thread and stops the reader.
  private mutating func carry(_ result: Result<Void, RelayFailure>) throws(VisitorStopped) {
    if case .failure(let error) = result {
      failure = error
      throw VisitorStopped()
    }
  }
}
