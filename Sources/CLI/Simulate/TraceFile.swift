import Agent
import ArgumentParser
import Simulator
import SystemPackage

/// Traces in files.
enum TraceFile {
  /// Bytes of the longest trace that is read: its most epochs, each of the longest line.
  static let bytesMax = 64 << 20

  static func read(_ path: String) throws -> DirtyTrace {
    let name = TerminalText.plain(path)
    let bytes: [UInt8]
    do {
      let file = try FileDescriptor.open(FilePath(path), .readOnly)
      defer { try? file.close() }
      bytes = try content(of: file)
    } catch let errno as Errno {
      throw ValidationError("\(name) can't be read: \(errno)")
    }
    guard bytes.count <= bytesMax else { throw ValidationError("\(name) is too long for a trace") }
    do {
      return try DirtyTrace(parsing: bytes)
    } catch let refusal {
      throw ValidationError("\(name) is no trace that can be replayed: \(refusal)")
    }
  }

  /// Throws when `path` can't be written; what it holds stays as it is.
  static func checkWritable(_ path: String) throws {
    try open(path) { _ in }
  }

  static func write(_ trace: DirtyTrace, to path: String) throws {
    try open(path) { file in
      try file.resize(to: 0)
      try file.writeAll(trace.text.utf8)
    }
  }

  private static func open(_ path: String, _ body: (FileDescriptor) throws -> Void) throws {
    do {
      let file = try FileDescriptor.open(
        FilePath(path), .writeOnly, options: .create,
        permissions: [.ownerReadWrite, .groupRead, .otherRead])
      defer { try? file.close() }
      try body(file)
    } catch let errno as Errno {
      throw ControlError(.failed, "\(TerminalText.plain(path)) can't be written: \(errno)")
    }
  }

  private static func content(of file: FileDescriptor) throws -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count <= bytesMax {
      // SAFETY: the buffer lives for the call and bounds what is read.
      let count = try unsafe chunk.withUnsafeMutableBytes { try unsafe file.read(into: $0) }
      if count == 0 { break }
      bytes += chunk[..<count]
    }
    return bytes
  }
}
