import Glibc
import HostIO
import NBD

/// A qcow2 image, read and written by QEMU's own `qemu-nbd` underneath (`Docs/adr/0011`).
///
/// The child takes one client, us, and ends when that client has gone: also when this process dies. When that happens before it
/// has us, it is told to end.
public struct Qcow2Image: Sendable {
  public let store: RemoteStore
  private let child: ChildProcess

  /// Time for `qemu-nbd` to open the image, in milliseconds.
  private static let startMs: UInt64 = 10_000

  /// What others may do to the image meanwhile. Only a `locked` one can be written to.
  public enum Use: Sendable, Hashable {
    /// Nobody else may write to it.
    case locked
    case readOnly
    /// Nobody writes to it meanwhile, and whoever has it open may go on having it.
    case frozen
  }

  /// A qcow2 image in a file as options of QEMU's programs (`--image-opts`): a path that looks like a URL stays a path.
  public static func options(_ path: String) -> String {
    let file = path.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
    return "driver=qcow2,file.driver=file,file.filename=\(file)"
  }

  /// - Parameters:
  ///   - bitmaps: dirty bitmaps of the image's that its store tells of (`NBDExtent.dirtyBitmap`); it can't be opened without
  ///     one of them.
  ///   - folder: made for as long as the image is being opened.
  public static func open(
    _ path: String, _ use: Use, bitmaps: [String] = [], in folder: String
  ) async throws -> Qcow2Image {
    let readOnly = use != .locked
    try PrivateDirectory.make(folder)
    let socket = folder + "/qemu-nbd.sock"
    let log = folder + "/qemu-nbd.log"
    let output = unsafe Glibc.open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard output >= 0 else { throw SystemError("open \(log)") }
    defer { _ = Glibc.close(output) }
    var arguments = [
      "--image-opts", "--socket", socket, "--shared", "1", "--discard", "unmap",
    ]
    if readOnly { arguments.append("--read-only") }
    arguments += bitmaps.map { "--bitmap=\($0)" }
    // Read-only alone keeps others from writing.
    let sharing = use == .frozen ? ",force-share=on,read-only=on" : ""
    arguments.append(options(path) + sharing)
    let tied = try TiedChild("qemu-nbd", arguments, output: output)
    let child = tied.process
    let deadlineMs = MonotonicClock.nowMs + startMs
    while child.exit == nil {
      if let connection = try? UnixSocket.connect(path: socket) {
        // It listens before it has opened the image; then the handshake fails and it says why.
        let opened = try? await WorkerThread.run("block-open") {
          try RemoteStore(
            over: connection, exportName: "", isReadOnly: readOnly,
            contexts: bitmaps.map(NBDExtent.dirtyBitmap))
        }
        guard let opened else { break }
        // It ends with this connection from now on, once what was written is flushed.
        tied.letGo()
        // Nobody else connects, and a server that is killed leaves no files.
        remove(folder)
        return Qcow2Image(store: opened, child: child)
      }
      guard MonotonicClock.nowMs < deadlineMs else { break }
      try await Task.sleep(for: .milliseconds(10))
    }
    await child.terminate()
    tied.letGo()
    let line = LogTail.read(log, byteCount: 4096)?.split(separator: "\n").last
    remove(folder)
    throw SpawnError(
      program: "qemu-nbd", detail: line.map(String.init) ?? "did not open the image \(path)")
  }

  /// How long the child may take to put what was written on stable storage, in milliseconds: as long as a flush may.
  private static let closeMs: UInt64 = 120_000

  /// Ends the child once what was written is flushed; no call to the store may follow.
  public func close() async {
    store.close()
    await child.terminate(graceMs: Self.closeMs)
  }

  private static func remove(_ folder: String) {
    for name in ["qemu-nbd.sock", "qemu-nbd.log"] { _ = unsafe unlink(folder + "/" + name) }
    _ = unsafe rmdir(folder)
  }
}
