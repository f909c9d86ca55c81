import Base
import Compaction
import HostIO
import QEMUStream
import Wire

/// Takes a copy of a guest's memory into this host's vault, while the guest runs elsewhere. Blocks; for a thread of its
/// own.
///
/// What comes is hostile until it is used: a snapshot is proven page for page when the guest comes.
struct WarmReceiver {
  /// Copies that come in at one time; each has a thread.
  static let connectionsMax = 4
  /// Room is made for so many bytes at a time.
  private static let roomBytes: UInt64 = 64 << 20

  let configuration: AgentConfiguration
  let vault: Vault

  init(_ configuration: AgentConfiguration) {
    (self.configuration, vault) = (configuration, Vault(configuration))
  }

  /// Serves one connection to its end.
  func serve(_ socket: any ByteConnection) throws {
    socket.setTimeout(ms: WarmMessage.silenceMsMax)
    let frames = FrameSocket(socket)
    guard case .begin(let order) = try frames.receiveWarmMessage() else {
      throw RelayFailure.protocolViolation("a copy that does not say what of")
    }
    let head: VaultHead
    switch accepted(order, peerNames: PeerSecurity.peerNames(of: socket)) {
    case .success(let sound): head = sound
    case .failure(let refusal): return try frames.send(.refused([refusal.refusal]))
    }
    let old = keptAlready(order)
    try frames.send(.accepted(old?.offer))
    try old?.snapshot.tell { (filters) throws(RelayFailure) in
      var payload: [UInt8] = []
      filters.encode(into: &payload)
      try unsafe frames.send(.snapshotFilters, payload)
    }
    let startMs = MonotonicClock.nowMs
    let writer: SnapshotWriter
    do { writer = try vault.begin(head) } catch {
      _ = try? frames.send(.failed(reason: "\(error)"))
      throw error
    }
    var kept = MigrationRecord.Kept()
    do {
      try receive(frames, writer, old?.snapshot)
      (kept.pages, kept.zeroPages) = (writer.storedPages, writer.zeroPages)
      try vault.finish(writer)
    } catch {
      vault.abandon(writer)
      _ = try? frames.send(.failed(reason: "\(error)"))
      throw error
    }
    (kept.bytes, kept.durationMs) = (writer.byteCount, MonotonicClock.nowMs - startMs)
    try frames.send(.kept(kept))
  }

  private struct Declined: Error { let refusal: Refusal }

  /// What the snapshot will be of, if this host takes it.
  private func accepted(
    _ order: WarmMessage.Order, peerNames: [String]
  ) -> Result<VaultHead, Declined> {
    if let refusal = AllowRule.refusal(configuration.allow, vm: order.vm, peerNames: peerNames) {
      return .failure(Declined(refusal: refusal))
    }
    guard vault.quotaBytes > 0 else {
      return .failure(
        Declined(
          refusal: Refusal(
            .notAllowed, "vaultQuota is 0 at the destination: nothing is kept there",
            remedy: "set it in the destination's agent.toml")))
    }
    var random = SystemRandomNumberGenerator()
    let head = VaultHead(
      id: VaultID(using: &random), takenAt: max(MonotonicClock.wallSeconds, 0),
      seed: random.next(), guest: order.vm, uuid: order.uuid,
      blocks: order.blocks.map { .init(name: $0.name, pages: $0.pages) })
    guard let head else {
      return .failure(
        Declined(
          refusal: Refusal(
            .request, "the guest's names or RAM blocks are over the limits of a snapshot",
            remedy: "move it without")))
    }
    return .success(head)
  }

  /// What the vault has of the guest; nil: nothing, or more than either side has memory for.
  private func keptAlready(
    _ order: WarmMessage.Order
  ) -> (snapshot: HeldSnapshot, offer: PeerMessage.SnapshotOffer)? {
    guard let entry = vault.newest(guest: order.vm, uuid: order.uuid),
      let offer = PeerMessage.SnapshotOffer(entry), offer.storedPages > 0,
      HeldPages.memoryBytes(offer) <= order.filterBytesMax,
      HeldSnapshot.memoryBytes(storedPages: offer.storedPages)
        <= configuration.memoryLimitBytes / 4,
      let snapshot = try? HeldSnapshot(path: entry.path, secret: try vault.secret())
    else { return nil }
    return (snapshot, offer)
  }

  private func receive(
    _ frames: FrameSocket, _ writer: SnapshotWriter, _ old: HeldSnapshot?
  ) throws {
    let unpacking = PageUnpacking()
    var order = PageOrder(writer.head)
    var roomUntil: UInt64 = 0
    while let header = try frames.receiveHeader() {
      switch header.type {
      case .encodedPages:
        let (encoded, body) = try frames.receiveEncoded(header) { PageBuffer(byteCount: $0) }
        // A batch fills a segment at most, and what was gathered before it another.
        if writer.byteCount + UInt64(2 * VaultSegment.byteCountMax) > roomUntil {
          let room = min(Self.roomBytes, mostBytes(writer))
          // Nothing makes way for what may not fit in the end.
          let (most, isTooMuch) = writer.byteCount.addingReportingOverflow(mostBytes(writer))
          try vault.makeRoom(
            for: room, of: writer,
            mayRemove: !isTooMuch && most <= vault.quotaBytes)
          roomUntil = writer.byteCount + room
        }
        try take(encoded, body, unpacking, old, &order, writer)
      case .message:
        switch try WarmMessage(decoding: try frames.receivePayload(of: header)) {
        case .alive: continue
        case .end(let zeroPages):
          guard zeroPages <= writer.head.pageCount - writer.storedPages else {
            throw RelayFailure.protocolViolation("\(zeroPages) zero pages, more than there are")
          }
          // Below `VaultLimits.pagesMax`.
          return writer.addZeros(Int(zeroPages))
        default: throw RelayFailure.protocolViolation("a message that fits no copy")
        }
      default: throw RelayFailure.protocolViolation("\(header.type) frame in a copy")
      }
    }
    throw RelayFailure.peer("ended before all of the copy had come")
  }

  /// What the rest takes at most, with what is not written yet.
  private func mostBytes(_ writer: SnapshotWriter) -> UInt64 {
    let bytes =
      (writer.head.pageCount - writer.storedPages) * UInt64(VaultSegment.pageByteCount)
      + UInt64(3 * VaultSegment.byteCountMax)
    return vault.keyFile == nil ? bytes : SealedLayout.fileByteCount(bytes)
  }

  /// Adds a frame's pages. Those that the vault was said to hold and doesn't are left out: they are sent when the guest
  /// comes.
  private func take(
    _ encoded: EncodedHeader, _ body: PageBuffer, _ unpacking: PageUnpacking, _ old: HeldSnapshot?,
    _ order: inout PageOrder, _ writer: SnapshotWriter
  ) throws {
    guard encoded.kinds.allSatisfy({ !$0.isReference || ($0 == .held && old != nil) }) else {
      throw RelayFailure.protocolViolation("references to pages, which were not agreed on")
    }
    let (buffer, references) = try unpacking.unpackReferring(encoded, body)
    defer { unpacking.giveBack(buffer) }
    let places = encoded.batch.runs.rawPlaces
    var missing: Set<Int> = []
    if let old, !references.isEmpty {
      let names = writer.head.blocks.map(\.name)
      missing = Set(
        HeldResolution(snapshot: old) { names.indices.contains($0) ? names[$0] : nil }
          .resolve(references, at: places, in: buffer))
    }
    for (index, place) in places.enumerated() {
      try order.next(place)
      let content = buffer.span((index + 1) * Page.size).extracting((index * Page.size)...)
      guard !missing.contains(index), !content.isAllZero else { continue }
      try writer.add(block: Int(place.block), page: place.page, content)
    }
  }
}

/// That pages come in rising order, each once, and are pages of the guest.
private struct PageOrder {
  private let blocks: [VaultHead.Block]
  private var last: VaultKey?

  init(_ head: VaultHead) { blocks = head.blocks }

  mutating func next(_ place: PagePlace) throws(RelayFailure) {
    let block = Int(place.block)
    guard blocks.indices.contains(block), place.page < blocks[block].pages else {
      throw .protocolViolation("page \(place.page) of block \(place.block), which is none")
    }
    let key = VaultKey(block: block, page: place.page)
    guard last.map({ $0 < key }) ?? true else {
      throw .protocolViolation("page \(place.page) of block \(place.block) out of order")
    }
    last = key
  }
}
