import Base
import Glibc
import HostIO

/// Bytes for QEMU's socket in which pages go between record headers without being copied.
struct GatheredPages {
  /// Header bytes gathered before a write, at most.
  static let headBytesMax = 256 << 10

  var head: [UInt8] = []
  /// Where page bytes go in between: offset in `head`, page number in the batch.
  private var cuts: [(at: Int, page: Int)] = []

  /// The next bytes are those of the batch's page `page`.
  mutating func cut(page: Int) { cuts.append((head.count, page)) }

  var isFull: Bool { head.count > Self.headBytesMax }

  /// Writes everything, and begins anew.
  mutating func flush(
    to qemu: any ByteConnection, pages buffer: PageBuffer?
  ) throws(SystemError) {
    let result = unsafe head.withUnsafeMutableBytes { raw -> Result<Void, SystemError> in
      var parts = unsafe Self.gather(raw, cuts, buffer)
      do throws(SystemError) {
        return .success(try unsafe qemu.writeAll(&parts))
      } catch {
        return .failure(error)
      }
    }
    head.removeAll(keepingCapacity: true)
    cuts.removeAll(keepingCapacity: true)
    try result.get()
  }

  /// Record headers and page bytes in turn, as system calls take them.
  private static func gather(
    _ head: UnsafeMutableRawBufferPointer, _ cuts: [(at: Int, page: Int)], _ buffer: PageBuffer?
  ) -> [iovec] {
    var parts: [iovec] = unsafe []
    unsafe parts.reserveCapacity(cuts.count * 2 + 1)
    var start = 0
    for cut in cuts {
      // SAFETY: offsets come from `head.count` as it grew, so they are in bounds and rising.
      let bytes = unsafe UnsafeMutableRawBufferPointer(rebasing: head[start..<cut.at])
      unsafe parts.append(iovec(iov_base: bytes.baseAddress, iov_len: bytes.count))
      if let page = unsafe buffer?.part(cut.page * Page.size, Page.size) {
        unsafe parts.append(iovec(iov_base: page.baseAddress, iov_len: page.count))
      }
      start = cut.at
    }
    let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: head[start...])
    unsafe parts.append(iovec(iov_base: rest.baseAddress, iov_len: rest.count))
    return unsafe parts
  }
}
