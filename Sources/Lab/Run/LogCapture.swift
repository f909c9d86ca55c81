import Glibc
import HostIO

/// Takes what a process says into a file, by way of a connection: also from a
/// process that may write to no file.
struct LogCapture: ~Copyable {
  /// For the process; the copying ends when all copies of it are closed.
  let input: Descriptor

  /// Appends to the file at `path`.
  init(path: String) throws {
    let file = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw LabError("cannot write \(path)") }
    var ends: [Int32] = [-1, -1]
    // A pair of sockets: what they are made with closes them in other children, at once.
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    // SAFETY: socketpair writes two descriptors, and the array holds two.
    let result = unsafe socketpair(AF_UNIX, type, 0, &ends)
    guard result == 0 else {
      close(file)
      throw LabError("cannot make a connection for \(path)")
    }
    input = Descriptor(owning: ends[1])
    let output = ends[0]
    _ = WorkerThread("lab-log") {
      Self.copy(output, file)
      close(output)
      close(file)
    }
  }

  private static func copy(_ output: Int32, _ file: Int32) {
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      // SAFETY: read and write get the chunk's address, and no more than its size.
      let count = unsafe chunk.withUnsafeMutableBytes { raw in
        unsafe read(output, raw.baseAddress, raw.count)
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return }
      _ = unsafe chunk.withUnsafeBytes { raw in unsafe write(file, raw.baseAddress, count) }
    }
  }
}
