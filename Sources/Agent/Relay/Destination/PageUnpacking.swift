import Base
import Compaction
import HostIO
import Wire

/// Unpacks encoded batches on whatever thread applies them.
///
/// Working memory is kept for as many threads as were at it at once: 1 MiB each.
final class PageUnpacking: Sendable {
  private static let keptMax = 16

  private struct Kept {
    var unpackers: [BatchUnpacker] = []
    var buffers: [PageBuffer] = []
  }

  private let kept = Guarded(Kept())

  /// The batch's pages that are not zero, in the order of its runs. The buffer goes back by `giveBack`.
  func unpack(_ header: EncodedHeader, _ body: PageBuffer) throws(RelayFailure) -> PageBuffer {
    let (buffer, references) = try unpackReferring(header, body)
    guard references.isEmpty else {
      throw .protocolViolation("references to pages, which were not agreed on")
    }
    return buffer
  }

  /// The same, and the pages that have to be made of what is there, see `BatchUnpacker.unpack`.
  func unpackReferring(
    _ header: EncodedHeader, _ body: PageBuffer
  ) throws(RelayFailure) -> (PageBuffer, [(place: Int, reference: PageReference)]) {
    let (keptUnpacker, keptBuffer) = kept.update { ($0.unpackers.popLast(), $0.buffers.popLast()) }
    let unpacker = keptUnpacker ?? BatchUnpacker()
    let buffer = keptBuffer ?? PageBuffer(byteCount: ApplyPipe.fullBatchBytes)
    let references: [(place: Int, reference: PageReference)]
    do throws(DecodeError) {
      references = try unsafe unpacker.unpack(
        header, body.span(header.bodyByteCount), into: buffer.part(0, buffer.byteCount))
    } catch {
      throw .protocolViolation("\(error)")
    }
    kept.update { if $0.unpackers.count < Self.keptMax { $0.unpackers.append(unpacker) } }
    return (buffer, references)
  }

  func giveBack(_ buffer: PageBuffer) {
    kept.update { if $0.buffers.count < Self.keptMax { $0.buffers.append(buffer) } }
  }
}
