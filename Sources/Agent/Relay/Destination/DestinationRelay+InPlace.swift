import Base
import Compaction
import HostIO
import QEMUStream
import Wire

// What is written into guest memory by the threads that apply frames.
extension DestinationRelay {
  /// The memory of a block that is written in place.
  func inPlace(_ block: Int) -> SharedFile? {
    layout.read { layout in
      guard let files = layout?.inPlace, files.indices.contains(block) else { return nil }
      return files[block]
    }
  }

  /// Unpacks a batch and writes in place what can be; true when that was all of the frame.
  func apply(
    _ sequence: UInt64, _ frame: IncomingFrame, _ header: EncodedHeader, _ body: PageBuffer
  ) throws(RelayFailure) -> Bool {
    if header.kinds.contains(where: \.isReference) {
      // The feeder unpacks it, when its turn has come: unpacked, it would be many times as large.
      if resolvesWhileFeeding(header) {
        return try apply(sequence, frame, header.batch) { () throws(RelayFailure) in nil }
      }
      return try applyReferring(sequence, frame, header, body)
    }
    var unpacked: PageBuffer?
    defer { if let unpacked { unpacking.giveBack(unpacked) } }
    return try apply(sequence, frame, header.batch) { () throws(RelayFailure) in
      if unpacked == nil { unpacked = try unpacking.unpack(header, body) }
      return unpacked
    }
  }

  /// The same for a batch with pages that are made of what is here. What cannot be made is asked for, and the
  /// frame is done when it has come: whatever must be applied behind it waits.
  private func applyReferring(
    _ sequence: UInt64, _ frame: IncomingFrame, _ header: EncodedHeader, _ body: PageBuffer
  ) throws(RelayFailure) -> Bool {
    guard header.batch.runs.allSatisfy({ inPlace(Int($0.block)) != nil }) else {
      throw .protocolViolation("references to pages, which were not agreed on")
    }
    let (buffer, references) = try unpacking.unpackReferring(header, body)
    let missing = try referenced.resolve(
      references, of: header.batch, in: buffer,
      held: snapshot.map { snapshot in
        HeldResolution(snapshot: snapshot) { [layout] in Self.blockName($0, layout) }
      }, vault: vault, images: images, gang: gang, memory: { inPlace($0) })
    try checkRuns()
    _ = try apply(sequence, frame, header.batch) { () throws(RelayFailure) in buffer }
    unpacking.giveBack(buffer)
    guard !missing.isEmpty else { return true }
    try referenced.expect(missing, of: sequence)
    var payload: [UInt8] = []
    PageRequestFrame(sequence: sequence, places: missing).encode(into: &payload)
    try control.send(.pageRequest, payload)
    return false
  }

  /// Takes pages that were asked for; names the frame that is done by them.
  func completed(by payload: [UInt8]) throws(RelayFailure) -> UInt64? {
    let answer: PageAnswerFrame
    do throws(DecodeError) {
      var cursor = unsafe ByteCursor(payload.span.bytes)
      answer = try PageAnswerFrame(decoding: &cursor)
    } catch {
      throw .protocolViolation("\(error)")
    }
    if try fetches.arrived(answer) { return nil }
    let isComplete = try referenced.arrived(answer, memory: { inPlace($0) })
    return isComplete ? answer.sequence : nil
  }

  /// Writes in place what can be; true when that was all of the frame.
  ///
  /// - Parameter pages: gives the page bytes; called only when some are written here.
  func apply(
    _ sequence: UInt64, _ frame: IncomingFrame, _ header: BatchHeader,
    _ pages: () throws(RelayFailure) -> PageBuffer?
  ) throws(RelayFailure) -> Bool {
    guard let layout = layout.read({ $0 }) else {
      throw .protocolViolation("pages before the RAM layout")
    }
    var needsFeeder = false
    var position = 0
    for run in header.runs {
      let block = Int(run.block)
      guard layout.blocks.indices.contains(block),
        run.firstPage + UInt64(run.count) <= UInt64(layout.blocks[block].pageCount)
      else { throw .protocolViolation("pages outside RAM: \(run)") }
      let byteCount = Int(run.count) * Page.size
      if let memory = layout.inPlace[block] {
        try write(
          run, run.pageClass == .raw ? pages() : nil, from: position, byteCount, to: memory)
      } else {
        needsFeeder = true
      }
      switch run.pageClass {
      case .raw: position += byteCount
      case .zero: break
      }
    }
    if needsFeeder { feeder.append(sequence, frame) }
    return !needsFeeder
  }

  private func write(
    _ run: PageRun, _ buffer: PageBuffer?, from position: Int, _ byteCount: Int,
    to memory: SharedFile
  ) throws(RelayFailure) {
    let place = run.firstPage << UInt64(Page.shift)
    do {
      switch run.pageClass {
      case .zero: try memory.writeZeros(at: place, count: byteCount)
      case .raw:
        guard let buffer else { return }
        // SAFETY: `part` checks its bounds; nobody else uses this buffer until it is applied.
        try unsafe memory.write(UnsafeRawBufferPointer(buffer.part(position, byteCount)), at: place)
      }
    } catch {
      throw .memory("\(error)")
    }
  }
}
