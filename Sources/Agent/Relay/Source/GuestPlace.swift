import Base
import HostIO

/// Where a RAM block of a running guest can be read: memory that it shares, or QEMU's own.
///
/// What is read is at least as new as whatever QEMU's stream said of the page before; what the guest writes
/// meanwhile comes with the stream again.
enum GuestPlace: Sendable {
  case shared(SharedFile)
  /// In QEMU's address space; `length` in bytes.
  case process(ProcessMemory, address: UInt64, length: UInt64)

  var pageCount: UInt64 {
    switch self {
    case .shared(let file): file.length >> UInt64(Page.shift)
    case .process(_, _, let length): length >> UInt64(Page.shift)
    }
  }

  /// Copies pages from `page` on into a buffer of as many times 4096 bytes; all of them are below `pageCount`.
  func read(page: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) {
    let position = page << UInt64(Page.shift)
    switch self {
    case .shared(let file): try unsafe file.read(at: position, into: buffer)
    case .process(let memory, let address, _):
      try unsafe memory.read(at: address + position, into: buffer)
    }
  }
}
