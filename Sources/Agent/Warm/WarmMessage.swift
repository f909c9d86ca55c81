import Compaction
import FoundationEssentials
import Wire

/// What two agents tell each other while one copies a running guest's memory into the other's vault. Pages go in
/// `encodedPages` frames in between, what the vault has already in `snapshotFilters`.
///
/// S: source agent, D: destination agent.
enum WarmMessage: Codable, Sendable {
  /// S→D: memory of this guest is to come. D answers `accepted` or `refused`.
  case begin(Order)
  /// D→S: let it come. What is kept of the guest already; its filters follow at once. Nil: nothing.
  case accepted(PeerMessage.SnapshotOffer?)
  /// D→S: it will not be kept; causes and remedies.
  case refused([Refusal])
  /// S→D: nothing yet, but I am here.
  case alive
  /// S→D: that was all. So many pages were zero.
  case end(zeroPages: UInt64)
  /// D→S: it is in the vault.
  case kept(MigrationRecord.Kept)
  /// D→S: it could not be kept.
  case failed(reason: String)

  struct Order: Codable, Sendable {
    var vm: String
    /// As its QEMU says; zeros where it has none.
    var uuid: String
    var blocks: [PeerMessage.SnapshotOffer.Block]
    /// Memory that the source has for what is kept already, in bytes, see `HeldPages.memoryBytes`.
    var filterBytesMax: UInt64
  }

  /// Longest time that the source says nothing, in milliseconds; then it is gone.
  static let silenceMsMax: UInt64 = 60_000

  func encoded() throws(RelayFailure) -> [UInt8] {
    do { return [UInt8](try JSONEncoder().encode(self)) } catch {
      throw .protocolViolation("message cannot be encoded: \(error)")
    }
  }

  /// The message as it may be used; throws when it says what no honest peer says.
  init(decoding payload: [UInt8]) throws(RelayFailure) {
    do { self = try JSONDecoder().decode(Self.self, from: Data(payload)) } catch {
      throw .protocolViolation("message cannot be read: \("\(error)".prefix(500))")
    }
    switch self {
    case .begin(let order):
      try PeerMessage.check(order.blocks.count, VaultLimits.blocksMax, "RAM blocks")
    case .accepted(let offer): try offer?.validate()
    case .refused(let refusals):
      try PeerMessage.check(refusals.count, PeerMessageLimits.refusalsMax, "refusals")
    case .failed(let reason):
      self = .failed(reason: String(reason.prefix(PeerMessageLimits.reasonMax)))
    case .alive, .end, .kept: break
    }
  }
}

extension FrameSocket {
  func send(_ message: WarmMessage) throws(RelayFailure) {
    try unsafe send(.message, try message.encoded())
  }

  /// The next message, which nothing else may come before.
  func receiveWarmMessage() throws(RelayFailure) -> WarmMessage {
    guard let header = try receiveHeader(), header.type == .message else {
      throw .protocolViolation("no message where one was expected")
    }
    return try WarmMessage(decoding: try receivePayload(of: header))
  }
}
