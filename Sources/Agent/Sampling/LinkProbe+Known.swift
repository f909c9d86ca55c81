import Base
import Compaction
import HostIO
import Wire

extension LinkProbe {
  /// How long the destination may take to look at its images and its vault, in milliseconds.
  private static let holdingsTimeoutMs: UInt64 = 30_000

  /// Which of these pages the destination could make of what it has; nil: it doesn't say. Blocks.
  ///
  /// - Parameters:
  ///   - request: as in `prepare`; with the claims of `indexes`.
  ///   - blocks: names of the memory's RAM blocks.
  ///   - filterBytesMax: memory that a migration would have for what is kept, in bytes.
  func known(
    _ request: PeerMessage.PrepareRequest, _ contents: SampledContents, blocks: [String],
    indexes: [StoredIndex], filterBytesMax: UInt64
  ) throws -> KnownPages? {
    let frames = try open(lane: 0)
    defer { frames.socket.finish() }
    frames.socket.setTimeout(ms: Self.holdingsTimeoutMs)
    let survey = try survey(frames, request)
    guard survey.refusals.isEmpty, let holdings = survey.holdings else { return nil }
    var stored: [StoredPlace] = []
    if let snapshot = holdings.snapshot, HeldPages.memoryBytes(snapshot) <= filterBytesMax {
      let question = PeerMessage.StoredQuestion(
        contents, blocks: blocks, seeds: [snapshot.seed] + holdings.vault.map(\.seed))
      stored = try ask(frames, question)
    }
    return KnownPages(
      contents, stored: stored, disks: DiskDirectory(indexes, holdings.images))
  }

  private func ask(
    _ frames: FrameSocket, _ question: PeerMessage.StoredQuestion
  ) throws -> [StoredPlace] {
    try unsafe frames.send(.message, try PeerMessage.areStored(question).encoded())
    guard let header = try frames.receiveHeader(), header.type == .message,
      case .stored(let places) = try PeerMessage(decoding: try frames.receivePayload(of: header)),
      places.count == question.pages.count
    else { throw RelayFailure.protocolViolation("\(destination) doesn't say what it has kept") }
    return places
  }
}

extension PeerMessage.StoredQuestion {
  init(_ contents: SampledContents, blocks: [String], seeds: [UInt64]) {
    (self.seeds, self.blocks, pages) = (seeds, blocks, [])
    contents.forEach { index, content in
      let place = contents.places[index]
      pages.append(
        Page(
          block: place.block, page: place.page,
          hashes: seeds.map { SentMemory.hash(content, seed: $0) }))
    }
  }
}
