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
