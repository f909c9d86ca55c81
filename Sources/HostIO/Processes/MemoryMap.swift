import Glibc

/// A file's part in a process's address space: one line of `/proc/PID/maps` (proc(5)).
public struct FileMapping: Sendable, Equatable {
  /// `[start, end)`.
  public let start, end: UInt64
  public let isShared: Bool
  /// Of `start` in the file.
  public let fileOffset: UInt64
  public let inode: UInt64
  /// As the kernel names it, with ` (deleted)` where that is so; empty for anonymous memory.
  public let name: String

  /// The shared file mappings of a process, in address order; nil when they cannot be read.
  public static func shared(pid: Int32) -> [FileMapping]? {
    all(pid: pid)?.filter { $0.isShared && $0.inode != 0 }
  }

  /// Everything that a process has mapped, in address order; nil when it cannot be read.
  public static func all(pid: Int32) -> [FileMapping]? {
    // A line has some 100 bytes, and the kernel allows 65,530 mappings by default.
    ProcFile.text("/proc/\(pid)/maps", limit: 32 << 20).map { text in
      text.split(separator: "\n").compactMap(FileMapping.init)
    }
  }

  /// Whether every byte of `[address, address + length)` is mapped privately: memory of the process's own.
  public static func isPrivate(
    _ address: UInt64, length: UInt64, in mappings: [FileMapping]
  ) -> Bool {
    let (end, overflow) = address.addingReportingOverflow(length)
    guard !overflow, length > 0 else { return false }
    var place = address
    for mapping in mappings where mapping.end > place {
      guard mapping.start <= place, !mapping.isShared else { return false }
      place = mapping.end
      if place >= end { return true }
    }
    return false
  }

  /// `7f92380df000-7f923bfff000 rw-s 00000000 00:01 315    /memfd:x (deleted)`.
  init?(_ line: Substring) {
    let fields = line.split(separator: " ", maxSplits: 5)
    guard fields.count >= 5, fields[1].count == 4, let inode = UInt64(fields[4]),
      let fileOffset = UInt64(fields[2], radix: 16)
    else { return nil }
    let bounds = fields[0].split(separator: "-")
    guard bounds.count == 2, let start = UInt64(bounds[0], radix: 16),
      let end = UInt64(bounds[1], radix: 16), start < end
    else { return nil }
    (self.start, self.end, self.fileOffset, self.inode) = (start, end, fileOffset, inode)
    isShared = fields[1].hasSuffix("s")
    name = fields.count > 5 ? String(fields[5].drop { $0 == " " }) : ""
  }

  /// Where the bytes `[address, address + length)` lie in one file; nil when they do not lie in one
  /// piece of one. Advice can split what was mapped at once into several lines.
  public static func fileRange(
    of address: UInt64, length: UInt64, in mappings: [FileMapping]
  ) -> (file: FileMapping, offset: UInt64)? {
    let (end, overflow) = address.addingReportingOverflow(length)
    guard !overflow, length > 0,
      let first = mappings.first(where: { $0.start <= address && address < $0.end })
    else { return nil }
    let (offset, tooFar) = first.fileOffset.addingReportingOverflow(address - first.start)
    guard !tooFar else { return nil }
    var covered = first
    while covered.end < end {
      guard
        let next = mappings.first(where: {
          $0.start == covered.end && $0.inode == first.inode && $0.name == first.name
            && $0.fileOffset == covered.fileOffset &+ (covered.end - covered.start)
        })
      else { return nil }
      covered = next
    }
    return (first, offset)
  }

  /// A path that opens this file: the descriptor in its process that refers to it.
  public func descriptorPath(pid: Int32) -> String? {
    for entry in ProcFile.names(in: "/proc/\(pid)/fd", limit: 65_536) {
      let path = "/proc/\(pid)/fd/\(entry)"
      guard ProcFile.link(path) == name else { continue }
      // SAFETY: the kernel fills the one struct whose address it gets.
      var status = stat()
      if unsafe stat(path, &status) == 0, UInt64(status.st_ino) == inode { return path }
    }
    return nil
  }
}
