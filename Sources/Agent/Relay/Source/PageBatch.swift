import Base
import HostIO
import Wire

/// Pages on their way from QEMU's stream to a lane.
final class PageBatch: Sendable {
  let header: BatchHeader
  /// Page bytes in the order of the runs (inline source); nil: read from guest memory when sent.
  let buffer: PageBuffer?
  /// Of the scan over fresh pages (TLM's mtx); otherwise pages that were dirtied (dtx).
  let isScan: Bool

  init(header: BatchHeader, buffer: PageBuffer?, isScan: Bool) {
    (self.header, self.buffer, self.isScan) = (header, buffer, isScan)
  }

  /// Bytes on the wire, frame header included.
  var wireByteCount: Int {
    FrameHeader.byteCount + header.byteCount + header.rawPageCount * Page.size
  }
}
