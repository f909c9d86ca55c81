import Base
import Compaction
import HostIO
import Wire

/// Pages on their way from QEMU's stream to a lane.
final class PageBatch: Sendable {
  let header: BatchHeader
  /// How the pages are written, and everything of the frame but the pages in `buffer`; nil: a plain
  /// `pages` frame.
  let encoded: (header: EncodedHeader, lead: [UInt8])?
  /// Page bytes in the order of the runs, of an encoded batch those of its raw pages; nil with pages
  /// that go plain: read from guest memory when sent.
  let buffer: PageBuffer?
  /// Bytes of `buffer`, or of guest memory, that follow on the wire.
  let bodyByteCount: Int
  /// Of the scan over fresh pages (TLM's mtx); otherwise pages that were dirtied (dtx).
  let isScan: Bool

  init(header: BatchHeader, buffer: PageBuffer?, isScan: Bool) {
    (self.header, self.buffer, self.isScan, encoded) = (header, buffer, isScan, nil)
    bodyByteCount = header.rawPageCount * Page.size
  }

  /// - Parameter buffer: raw pages that are not in `lead`, from its start on.
  init(
    encoded header: EncodedHeader, lead: [UInt8], buffer: PageBuffer?, bodyByteCount: Int,
    isScan: Bool
  ) {
    (self.header, encoded) = (header.batch, (header, lead))
    (self.buffer, self.bodyByteCount, self.isScan) = (buffer, bodyByteCount, isScan)
  }

  /// Bytes on the wire, frame header included.
  var wireByteCount: Int {
    let head = encoded.map { $0.header.byteCount + $0.lead.count } ?? header.byteCount
    return FrameHeader.byteCount + head + bodyByteCount
  }
}
