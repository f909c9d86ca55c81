import FoundationEssentials
import QEMUStream
import Strategy

/// What two agents tell each other on the control lane, beside pages and QEMU's own bytes.
///
/// S: source agent, D: destination agent. The order of a migration is in `ARCHITECTURE.md`.
enum PeerMessage: Codable, Sendable {
  /// S→D: what is to come. D answers `offer` or `refused`.
  case prepare(PrepareRequest)
  /// D→S: the destination's QEMU waits; its facts, and what the source may use.
  case offer(PrepareOffer)
  /// Either: it cannot be done; causes and remedies. Nothing is left behind.
  case refused([Refusal])
  /// S→D: the checks passed, feed the stream into QEMU.
  case begin(BeginOrder)
  /// D→S: the destination's QEMU accepts the stream.
  case ready
  /// S→D: the RAM blocks of the stream.
  case layout([RAMBlock], sectionID: UInt32)
  /// S→D: how it goes, for those who watch there; changes nothing.
  case progress(PeerProgress)
  /// S→D: the guest has stopped, and every block of its disks has been written and answered.
  case closeDisks
  /// D→S: they are on stable storage, and nobody but the destination's QEMU writes to them any more.
  case disksClosed(writtenBytes: UInt64)
  /// D→S: everything is loaded, the guest is paused (PREPARED). D decides nothing alone from here.
  case loaded
  /// S→D, once `loaded` was heard and only where it isn't as `prepare` said: whether the guest ran right before it was
  /// stopped, and hence shall run.
  case runState(isRunning: Bool)
  /// D→S: that is in the journal.
  case runStateNoted
  /// S→D: digests of pages, 16 bytes a page, from `firstPage` of a block on.
  case auditPages(block: String, firstPage: UInt64, digests: Data)
  /// S→D: all digests were sent.
  case auditEnd
  /// D→S: the outcome of the comparison. `pagesLeft`: pages of a pull, which are compared as they come; `uncoveredBlocks`:
  /// RAM blocks that D can't find in its QEMU. Nil: none of either.
  case audited(
    pagesCompared: UInt64, pagesDiffering: UInt64, examples: [String], pagesLeft: UInt64?,
    uncoveredBlocks: [String]?)
  /// S→D: the source's QEMU has given the guest up. Run it.
  case commit
  /// D→S: the guest runs here; milliseconds from `commit` to running.
  case running(afterMs: UInt64)
  /// Either: give up; the guest stays at the source.
  case abort(reason: String)
  /// D→S: cannot go on; the guest never ran here and never will.
  case failed(reason: String)
  /// S→D on a `settle` connection: the truth about a migration after a crash.
  case verdict(Verdict)
  /// S→D on a `probe` connection: would you take this VM? Nothing begins.
  case survey(PrepareRequest)
  /// D→S: the answer.
  case surveyed(SurveyAnswer)
  /// S→D on the same connection: which pages of the VM that was asked about are kept there?
  case areStored(StoredQuestion)
  /// D→S: by page of the question.
  case stored([StoredPlace])
  /// D→S: the verdict is carried out; what the guest's QEMU does here now.
  case settled(Settlement)

  typealias Verdict = CommitVerdict
  typealias Settlement = CommitSettlement

  struct PrepareRequest: Codable, Sendable {
    var vm: String
    var source: VMFacts
    /// The source QEMU's program and arguments, for a destination without a definition.
    var commandLine: [String]
    var strategy: String
    var audit: Bool
    var pageSource: MigrationRequest.PageSourceChoice
    /// The guest may move before its memory, if the destination's QEMU can; nil: it shall not.
    var pull: Bool?
    /// Indexed images of the guest; nil: blocks of images shall not be referred to.
    var images: [ImageClaim]?
    /// Disks that shall move with the guest where the hosts do not share them; nil: none.
    var disks: [DiskClaim]?
    /// Disks that both hosts have to share, as far as that can be seen; nil: an agent that doesn't look.
    var staying: [StayingDisk]?
    /// Pages may be the same as blocks of the copies of these; nil: no.
    var copiedBlocks: Bool?
    /// The gang that the guest moves with; nil: it goes alone.
    var gang: GangRole?
  }

  struct SurveyAnswer: Codable, Sendable {
    var host: HostFacts
    /// Why not; empty: as far as can be known without starting a QEMU, yes.
    var refusals: [Refusal]
    var laneCountMax: Int
    /// This host's kernel lets QEMU wait for pages (userfaultfd), so that a guest may come before its memory.
    var canWaitForPages: Bool
    /// As in the offer, as far as it can be said without making anything; nil: none were claimed, or refused.
    var disks: [DiskAnswer]?
    /// What pages could be made of; nil: images were not claimed, not even none, it was refused, or the agent doesn't say.
    var holdings: Holdings?
  }

  struct PrepareOffer: Codable, Sendable {
    var destination: VMFacts
    var host: HostFacts
    /// Secret that data lanes show, 32 hexadecimal digits.
    var token: String
    /// Most bytes that may be on their way.
    var windowBytes: UInt64
    /// RAM blocks that can be written in place.
    var sharedBlocks: [String]
    /// The destination's QEMU can run a guest before its memory is there.
    var mayPull: Bool?
    /// What the destination understands beside plain pages, by `PageEncoding`'s names; unknown ones mean
    /// nothing. Nil: an agent that knows none of them.
    var encodings: [String]?
    /// What is kept here of the guest's memory, from when it was here; nil: nothing that could be used.
    var snapshot: SnapshotOffer?
    /// Beside that one, snapshots of guests that share with it: pages may be the same as any stored page of these, and of
    /// that one. Nil: an agent that knows of pages at the same place only.
    var vault: [FurtherSnapshot]?
    /// Images whose blocks may be referred to, by their place in this list.
    var images: [ImageMatch]?
    /// What becomes of each disk that was claimed, in that order; those that are not shared are served from now on. Nil:
    /// an agent that takes none.
    var disks: [DiskAnswer]?
    /// RAM blocks that can be read here for pages of the gang's others; nil: nothing is known of a gang.
    var gangBlocks: [String]?
  }

  /// A guest's part in a gang: guests that move from one host to another together.
  struct GangRole: Codable, Sendable {
    /// Secret that the gang's guests have in common, 32 hexadecimal digits.
    var token: String
    /// Of this guest among them, never given twice.
    var member: UInt16
  }

  /// A snapshot of the guest that the destination has.
  struct SnapshotOffer: Codable, Sendable {
    struct Block: Codable, Sendable {
      var name: String
      var pages: UInt64
    }

    /// 32 hexadecimal digits.
    var id: String
    /// Seconds since 1970.
    var takenAt: Int64
    /// Of the filters, see `SnapshotFilters`.
    var seed: UInt64
    var blocks: [Block]
    /// Pages that are not zero.
    var storedPages: UInt64
  }

  /// A snapshot of another guest, whose pages may be referred to.
  struct FurtherSnapshot: Codable, Sendable {
    /// Of its filters, see `SnapshotFilters`.
    var seed: UInt64
    /// Pages that are not zero.
    var storedPages: UInt64
  }

  /// A way of writing pages that a destination says it understands.
  enum PageEncoding: String, CaseIterable {
    /// `encodedPages` frames with uniform, LZ4 and zstd pages.
    case packed
    /// Pages made of what is in blocks that are written in place: deltas and duplicates.
    case references
    /// Pages that are the same as blocks of the images that were offered.
    case disk
    /// The same of disks that move with the guest.
    case copied
    /// Pages that are the same as those of other guests of the gang.
    case gang
    /// Pages of a pull that are the same as stored ones, wherever those lay.
    case pullVault = "pull-vault"
    /// Which pages of a pull the guest has written most of late.
    case pullHeat = "pull-heat"
    /// `encodedPages` frames in a pull, of pages that need nothing but the frame.
    case pullPacked = "pull-packed"
  }

  struct BeginOrder: Codable, Sendable {
    var laneCount: Int
    /// Blocks to be written in place; the others go through QEMU's stream.
    var inPlaceBlocks: [String]
    /// How long the source looks for a connection that broke, before it gives up.
    var networkPatienceMs: UInt64
    /// The guest may be handed over before its memory is complete.
    var mayPull: Bool?
    /// The id of the offered snapshot, when pages of it will be named: the source waits for its filters. Nil: none.
    var snapshot: String?
    /// Pages will be the same as stored pages of that snapshot, and of so many of the further ones, the first of them. Nil:
    /// only as those at the same place.
    var vault: Int?
    /// The source says of pages that are pulled whether this side may make them itself, of that snapshot or of the images
    /// that were offered. Nil: it knows nothing of that.
    var identifies: Bool?
    /// It says so of stored pages that lay elsewhere, too. Nil: only of those at the same place.
    var identifiesStored: Bool?
  }

  func encoded() throws(RelayFailure) -> [UInt8] {
    do { return [UInt8](try JSONEncoder().encode(self)) } catch {
      throw .protocolViolation("message cannot be encoded: \(error)")
    }
  }

  init(decoding payload: [UInt8]) throws(RelayFailure) {
    let message: PeerMessage
    do { message = try JSONDecoder().decode(Self.self, from: Data(payload)) } catch {
      throw .protocolViolation("message cannot be read: \("\(error)".prefix(500))")
    }
    self = try message.validated()
  }
}
