import Base
import Compaction
import HostIO
import QEMUStream
import Wire

/// One pass over a running guest's memory, copied into the vault of another host. Blocks; for a thread of its own.
///
/// The guest goes on writing meanwhile, so a page may be half old and half new. That makes it useless, not wrong: what
/// identifies a page of a snapshot is reckoned from what was stored.
struct WarmPass {
  /// How much effort goes into making pages small: at a low rate little of it pays.
  private static let effort = Effort.zstd1
  /// Progress is told this often, and the destination hears of us at least so often.
  private static let lookMs: UInt64 = 250
  private static let aliveMs: UInt64 = 5000
  /// Before so much is known no end is foretold, in milliseconds.
  private static let etaFromMs: UInt64 = 1000

  let memory: SampledMemory
  let guest, uuid: String
  /// Memory for what the destination keeps already, in bytes.
  let filterBytesMax: UInt64
  let rate: ByteRate
  /// This host's part of the bandwidth; nil: no limit but the rate.
  let share: LinkShare?
  let stop: WarmStop

  /// What has been done so far.
  private struct Course {
    let startMs = MonotonicClock.nowMs
    var bucket: TokenBucket
    var look: WarmLook
    var heldPages: UInt64 = 0
    var sentPages: UInt64 = 0
    var zeroPages: UInt64 = 0
    var lookedAtMs: UInt64 = 0
    var sentAtMs = MonotonicClock.nowMs
    var sequence: UInt64 = 0
  }

  /// Pages that are gathered and go next.
  private struct Gathered {
    var runs: [PageRun] = []
    var count = 0

    mutating func add(_ block: Int, _ page: UInt64) {
      count += 1
      let block = UInt16(truncatingIfNeeded: block)  // below `VaultLimits.blocksMax`
      if !runs.isEmpty, runs[runs.count - 1].extend(block: block, pageClass: .raw, page: page) {
        return
      }
      runs.append(PageRun(block: block, pageClass: .raw, firstPage: page, count: 1))
    }
  }

  /// Sends everything over a connection that was let in, and waits until it is in the vault.
  ///
  /// Throws `CancellationError` when it was called off, wherever that met it.
  func run(
    _ socket: any ByteConnection, progress: (WarmLook) -> Void
  ) throws -> WarmRecord {
    stop.watch(socket)
    defer { stop.watch(nil) }
    do { return try copy(to: socket, progress) } catch {
      // Then whatever a connection says that was shut.
      guard !stop.isCalled else { throw CancellationError() }
      throw error
    }
  }

  private func copy(
    to socket: any ByteConnection, _ progress: (WarmLook) -> Void
  ) throws -> WarmRecord {
    socket.setTimeout(ms: WarmMessage.silenceMsMax)
    let written = Guarded<UInt64>(0)
    let frames = FrameSocket(socket, counting: written)
    let blocks = memory.blocks.map { RAMBlock(name: $0.name, length: $0.pageCount << 12) }
    try frames.send(
      .begin(
        .init(
          vm: guest, uuid: uuid,
          blocks: memory.blocks.map { .init(name: $0.name, pages: $0.pageCount) },
          filterBytesMax: filterBytesMax)))
    let held = try answer(frames)
    var course = Course(
      bucket: TokenBucket(rate: rate, nowUs: MonotonicClock.nowUs),
      look: WarmLook(ramBytes: memory.ramPages << UInt64(Page.shift)))
    let buffer = PageBuffer(byteCount: BatchLimits.rawPagesMax * Page.size)
    let packer = BatchPacker()
    var gathered = Gathered()
    for (index, block) in memory.blocks.enumerated() {
      for page in 0..<block.pageCount {
        let offset = gathered.count * Page.size
        if try memory.read(block, page, buffer, at: offset),
          !buffer.span(offset + Page.size).extracting(offset...).isAllZero
        {
          gathered.add(index, page)
        } else {
          course.zeroPages += 1
        }
        course.look.doneBytes += UInt64(Page.size)
        if gathered.count == BatchLimits.rawPagesMax {
          try send(&gathered, buffer, packer, held, blocks, frames, &course)
        }
        if page % 256 == 0 { try tell(&course, written, frames, progress) }
      }
    }
    if gathered.count > 0 { try send(&gathered, buffer, packer, held, blocks, frames, &course) }
    try failedAtDestination(frames) { () throws(RelayFailure) in
      try frames.send(.end(zeroPages: course.zeroPages))
    }
    let kept = try outcome(frames)
    return WarmRecord(
      vm: guest, sentPages: course.sentPages, heldPages: course.heldPages,
      zeroPages: course.zeroPages, unseenPages: memory.unseenPages, keptPages: kept.pages ?? 0,
      keptBytes: kept.bytes ?? 0, wireBytes: written.read { $0 },
      durationMs: MonotonicClock.nowMs - course.startMs)
  }

  /// What the destination has of the guest; nil: nothing.
  private func answer(_ frames: FrameSocket) throws -> HeldPages? {
    switch try frames.receiveWarmMessage() {
    case .accepted(.none): return nil
    case .accepted(.some(let offer)):
      guard HeldPages.memoryBytes(offer) <= filterBytesMax else {
        throw RelayFailure.protocolViolation("a snapshot that is larger than was agreed on")
      }
      let held = HeldPages(offer, readable: Set(memory.blocks.map(\.name)), inPlace: [])
      while !held.isComplete {
        guard let header = try frames.receiveHeader(), header.type == .snapshotFilters else {
          throw RelayFailure.protocolViolation("no filters of the snapshot")
        }
        try held.arrived(try frames.receivePayload(of: header))
      }
      return held
    case .refused(let refusals): throw Ending.refused(refusals)
    default: throw RelayFailure.protocolViolation("an answer that fits no copy")
    }
  }

  private func outcome(_ frames: FrameSocket) throws -> MigrationRecord.Kept {
    switch try frames.receiveWarmMessage() {
    case .kept(let kept): return kept
    case .failed(let reason): throw Ending.failed("at the destination: \(reason)")
    default: throw RelayFailure.protocolViolation("an answer that fits no copy")
    }
  }

  /// Sends what is gathered, in its smallest form and at its pace.
  private func send(
    _ gathered: inout Gathered, _ buffer: PageBuffer, _ packer: BatchPacker, _ held: HeldPages?,
    _ blocks: [RAMBlock], _ frames: FrameSocket, _ course: inout Course
  ) throws {
    course.sequence += 1
    let header = BatchHeader(
      place: SequencedHeader(sequence: course.sequence, after: 0), runs: gathered.runs)
    let filters = held?.filters(of: header.runs, blocks) ?? []
    var packed = unsafe packer.pack(
      header, buffer.span(gathered.count * Page.size), Self.effort
    ) { index, content, _ in
      guard let held, index < filters.count else { return nil }
      return held.identity(of: content, filter: filters[index]).map { .held(proof: $0) }
    }
    if !packed.heldIdentities.isEmpty {
      packed.prove(unsafe PageIdentity.bytes(of: packed.heldIdentities.span.bytes))
    }
    var head: [UInt8] = []
    packed.header.encode(into: &head)
    head += packed.lead
    for (index, page) in packed.rawPages.enumerated() where index != page {
      // SAFETY: `part` checks the bounds; raw pages move towards the start only, one at a time.
      unsafe buffer.part(index * Page.size, Page.size).copyMemory(
        from: UnsafeRawBufferPointer(buffer.part(page * Page.size, Page.size)))
    }
    let bodyByteCount = packed.rawPages.count * Page.size
    try pace(UInt64(FrameHeader.byteCount + head.count + bodyByteCount), &course)
    try failedAtDestination(frames) { () throws(RelayFailure) in
      try unsafe frames.send(.encodedPages, head, body: buffer.part(0, bodyByteCount))
    }
    course.sentAtMs = MonotonicClock.nowMs
    let heldPages = packed.header.kinds.count { $0 == .held }
    course.heldPages += UInt64(heldPages)
    course.sentPages += UInt64(gathered.count - heldPages)
    gathered = Gathered()
  }

  /// A destination that gives up says why, and closes: its words count, not that the connection broke.
  private func failedAtDestination(
    _ frames: FrameSocket, _ body: () throws(RelayFailure) -> Void
  ) throws {
    do throws(RelayFailure) { try body() } catch {
      if case .peer = error, case .failed(let reason)? = try? frames.receiveWarmMessage() {
        throw Ending.failed("at the destination: \(reason)")
      }
      throw error
    }
  }

  /// Waits until so many bytes may go.
  private func pace(_ bytes: UInt64, _ course: inout Course) throws {
    let nowUs = MonotonicClock.nowUs
    let delayUs = max(course.bucket.take(bytes, nowUs: nowUs), share?.take(bytes) ?? 0)
    try stop.pause(ms: delayUs / 1000)
  }

  private func tell(
    _ course: inout Course, _ written: Guarded<UInt64>, _ frames: FrameSocket,
    _ progress: (WarmLook) -> Void
  ) throws {
    try stop.pause(ms: 0)
    let nowMs = MonotonicClock.nowMs
    if nowMs >= course.sentAtMs + Self.aliveMs {
      try failedAtDestination(frames) { () throws(RelayFailure) in try frames.send(.alive) }
      course.sentAtMs = nowMs
    }
    guard nowMs >= course.lookedAtMs + Self.lookMs else { return }
    course.lookedAtMs = nowMs
    course.look.wireBytes = written.read { $0 }
    let elapsedMs = nowMs - course.startMs
    let rest = course.look.ramBytes - min(course.look.doneBytes, course.look.ramBytes)
    let (product, overflow) = elapsedMs.multipliedReportingOverflow(by: rest >> 12)
    course.look.etaMs =
      elapsedMs >= Self.etaFromMs && course.look.doneBytes > 0 && !overflow
      ? product / (course.look.doneBytes >> 12) : nil
    progress(course.look)
  }
}
