import Glibc
import HostIO

/// A qcow2 image, read and written by QEMU's own `qemu-nbd` underneath (`Docs/adr/0011`).
///
/// The child takes one client, us, and ends when that client has gone: also when this process dies.
public struct Qcow2Image: Sendable {
  public let store: RemoteStore
  private let child: ChildProcess

  /// Time for `qemu-nbd` to open the image, in milliseconds.
  private static let startMs: UInt64 = 10_000

  public enum Use: Sendable, Hashable {
    /// Nobody else may write to it.
    case locked
    case readOnly
    /// Nobody writes to it for now, and whoever has it open may go on having it.
    case frozen
  }

  /// - Parameter folder: made for as long as the image is being opened.
  public static func open(
    _ path: String, _ use: Use, in folder: String
  ) async throws -> Qcow2Image {
    let readOnly = use != .locked
    try PrivateDirectory.make(folder)
    let socket = folder + "/qemu-nbd.sock"
    let log = folder + "/qemu-nbd.log"
    let output = unsafe Glibc.open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard output >= 0 else { throw SystemError("open \(log)") }
    defer { _ = Glibc.close(output) }
    // As options: a path that looks like a URL stays a path.
    let file = path.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
    var arguments = [
      "--image-opts", "--socket", socket, "--shared", "1", "--discard", "unmap",
    ]
    if readOnly { arguments.append("--read-only") }
    // Read-only alone keeps others from writing.
    let sharing = use == .frozen ? ",force-share=on,read-only=on" : ""
    arguments.append("driver=qcow2\(sharing),file.driver=file,file.filename=\(file)")
    let child = try ChildProcess("qemu-nbd", arguments, output: output)
    let deadlineMs = MonotonicClock.nowMs + startMs
    while child.exit == nil {
      if let connection = try? UnixSocket.connect(path: socket) {
        // It listens before it has opened the image; then the handshake fails and it says why.
        let opened = try? await WorkerThread.run("block-open") {
          try RemoteStore(over: connection, exportName: "", isReadOnly: readOnly)
        }
        guard let opened else { break }
        // Nobody else connects, and a server that is killed leaves no files.
        remove(folder)
        return Qcow2Image(store: opened, child: child)
      }
      guard MonotonicClock.nowMs < deadlineMs else { break }
      try await Task.sleep(for: .milliseconds(10))
    }
    await child.terminate()
    let line = LogTail.read(log, byteCount: 4096)?.split(separator: "\n").last
    remove(folder)
    throw SpawnError(
      program: "qemu-nbd", detail: line.map(String.init) ?? "did not open the image \(path)")
  }

  /// Ends the child once what was written is flushed; no call to the store may follow.
  public func close() async {
    store.close()
    await child.terminate()
  }

  private static func remove(_ folder: String) {
    for name in ["qemu-nbd.sock", "qemu-nbd.log"] { _ = unsafe unlink(folder + "/" + name) }
    _ = unsafe rmdir(folder)
  }
}
