import Base
import Foundation
import HostIO
import QEMUStream
import QMP
import Strategy
import Synchronization
import Testing
import Wire

@testable import Agent

/// What a source's QEMU says of a stopped guest, in its ordinary pre-copy stream.
struct StoppedGuest: StreamVisitor {
  /// Header, configuration, commands: up to RAM's START.
  var head: [UInt8] = []
  var start: [UInt8] = []
  var sectionID: UInt32 = 0
  var blocks: [RAMBlock] = []
  /// By number; nil: zeros.
  var pages: [Int: [UInt8]] = [:]
  var numbering = PageNumbering(blockPages: [])
  var tail: [UInt8] = []
  var descriptionLength = 0

  mutating func verbatim(_ bytes: RawSpan, _ item: VerbatimItem) {
    if case .section(.start, _, "ram") = item {
      start.append(contentsOf: bytes)
    } else if blocks.isEmpty {
      head.append(contentsOf: bytes)
    }
  }
  mutating func ramBlocks(_ blocks: [RAMBlock], sectionID: UInt32) {
    (self.blocks, self.sectionID) = (blocks, sectionID)
    numbering = PageNumbering(blockPages: blocks.map(\.pageCount))
  }
  mutating func page(block: Int, offset: UInt64, bytes: RawSpan) {
    var page: [UInt8] = []
    page.append(contentsOf: bytes)
    pages[numbering.number(block: block, page: Int(offset >> 12))] = page
  }
  mutating func zeroPage(block: Int, offset: UInt64) {
    pages[numbering.number(block: block, page: Int(offset >> 12))] = nil
  }
  mutating func ramPartEnded() {}
  mutating func ramEndBegan() {}
  mutating func ramEnded() {}
  mutating func tail(_ bytes: RawSpan) { tail.append(contentsOf: bytes) }
  mutating func ended(descriptionLength: Int) { self.descriptionLength = descriptionLength }
  mutating func handedOver(_ reason: HandoverReason, at offset: UInt64, lastBlock: Int?) {}

  /// Everything that a QEMU writes until it closes.
  static func read(from socket: StreamSocket) throws -> StoppedGuest {
    var guest = StoppedGuest()
    var reader = StreamReader()
    let buffer = PageBuffer(byteCount: 1 << 20)
    var held = 0
    while true {
      let count = try socket.read(into: buffer.part(held, buffer.byteCount - held))
      guard count > 0 else { break }
      held += count
      let used = try reader.consume(buffer.span(held), &guest)
      buffer.moveToFront(from: used, count: held - used)
      held -= used
    }
    try reader.finish(&guest)
    return guest
  }

  /// The pages of a run as a lane carries them.
  func batch(_ run: Range<Int>, sequence: UInt64) -> (BatchHeader, PageBuffer?) {
    let block = numbering.block(of: run.lowerBound)
    var runs: [PageRun] = []
    var bytes: [UInt8] = []
    for page in run {
      let number = UInt64(page - numbering.bases[block])
      let content = pages[page]
      let kind: PageClass = content == nil ? .zero : .raw
      if runs.isEmpty
        || !runs[runs.count - 1].extend(block: UInt16(block), pageClass: kind, page: number)
      {
        runs.append(
          PageRun(block: UInt16(block), pageClass: kind, firstPage: number, count: 1))
      }
      bytes += content ?? []
    }
    let place = SequencedHeader(sequence: sequence, after: sequence - 1)
    guard !bytes.isEmpty else { return (BatchHeader(place: place, runs: runs), nil) }
    let buffer = PageBuffer(byteCount: bytes.count)
    buffer.store(bytes.span.bytes, at: 0)
    return (BatchHeader(place: place, runs: runs), buffer)
  }
}

/// A source in the place of the other agent: sends what `PullSource` says, each run over a lane that
/// may be shut.
final class PullingSource: Sendable {
  struct State: Sendable {
    var source: PullSource
    /// Requests are thrown away, as by a cut connection.
    var isCut = false
    /// Only what the guest waits for is sent.
    var isHeld: Bool
    var hasEnded = false
    var urgentRequests = 0
    var thrownAway = 0
    var failure: String?
  }

  let state: Guarded<State>
  private let guest: StoppedGuest

  init(_ guest: StoppedGuest, isHeld: Bool) {
    self.guest = guest
    state = Guarded(State(source: PullSource(numbering: guest.numbering), isHeld: isHeld))
  }

  func asked(_ requests: [PullRequest]) {
    state.update { state in
      for request in requests {
        guard !state.isCut else {
          state.thrownAway += 1
          continue
        }
        if request.kind == .urgent { state.urgentRequests += 1 }
        do {
          let pages = try guest.numbering.numbers(
            block: Int(request.block), firstPage: request.firstPage,
            count: UInt64(request.count))
          try state.source.request(PullRun(pages, PullRun.Kind(request.kind)))
        } catch { state.failure = "\(error)" }
      }
    }
  }

  /// Sends what is asked for, until it is ended; blocks.
  func run(_ send: (BatchHeader, PageBuffer?) throws(RelayFailure) -> Void) {
    var sequence: UInt64 = 0
    while true {
      let next = state.wait { state -> Range<Int>?? in
        if state.hasEnded || state.failure != nil { return .some(nil) }
        if let pages = state.source.nextUrgent(limit: 64) { return .some(pages) }
        guard !state.isHeld, !state.isCut else { return nil }
        return state.source.nextAhead(limit: 64).map { .some($0) }
      }
      guard let pages = next ?? nil else { return }
      sequence += 1
      let (header, buffer) = guest.batch(pages, sequence: sequence)
      do { try send(header, buffer) } catch {
        state.update { $0.failure = "\(error)" }
      }
    }
  }
}
