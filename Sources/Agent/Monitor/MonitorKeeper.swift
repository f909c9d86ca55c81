import Glibc
import HostIO
import QMP

/// Holds a monitor connection of a QEMU's open on which commands may go out of band, longer than the agent lives.
///
/// A guest that waits for a missing page may hold QEMU's main loop, and then QEMU greets nobody: only a
/// connection that has agreed on out-of-band commands before can tell it to take a new stream. So while a guest is pulled,
/// a process of its own holds one (`godwit keep-monitor`), and passes lines between it and whoever connects to
/// its socket. It greets in QEMU's place, and ends with QEMU or when it is told to.
public final class MonitorKeeper: Sendable {
  /// Told by a client in place of a command: the pull is through.
  static let farewell = "godwit-keeper-end"
  /// Of the keeper's socket, beside the monitor's.
  static let suffix = ".keep"

  private let qemu: StreamSocket
  private let listener: ListeningSocket
  private let greeting: [UInt8]
  private let client = Guarded<StreamSocket?>(nil)

  /// Keeps the monitor at `path` until QEMU ends, or the farewell comes.
  public static func keep(_ path: String) async throws {
    try await Blocking.run { try MonitorKeeper(monitor: path).run() }
  }

  /// Connects to the monitor at `path` and agrees on out-of-band commands. Blocks.
  init(monitor path: String) throws {
    qemu = try UnixSocket.connect(path: path)
    var lines = LineSource(qemu)
    guard let greeting = try lines.next() else { throw SystemError("greet \(path)", code: EPIPE) }
    self.greeting = greeting
    try Self.write(#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}"#, to: qemu)
    _ = try lines.next()
    listener = try UnixSocket.listen(path: path + Self.suffix)
  }

  /// Serves until QEMU or the farewell ends it. Blocks.
  func run() {
    let reader = WorkerThread("keep-rx") { [self] in
      var lines = LineSource(qemu)
      // What nobody hears is dropped: events of the time between two agents.
      while let line = try? lines.next() {
        guard let client = client.read({ $0 }) else { continue }
        do { try Self.write(line, to: client) } catch { client.shutdown() }
      }
      listener.shutdown()
      client.read { $0 }?.shutdown()
    }
    while let accepted = (try? listener.accept(timeoutMs: nil)) ?? nil {
      guard serve(accepted) else { break }
    }
    qemu.shutdown()
    reader.join()
  }

  /// False: nothing more is to be kept.
  private func serve(_ accepted: StreamSocket) -> Bool {
    defer {
      client.update { $0 = nil }
      accepted.shutdown()
    }
    var lines = LineSource(accepted)
    do {
      try Self.write(greeting, to: accepted)
      guard let first = try lines.next() else { return true }
      let request = try JSONParser.parse(first)
      guard request["execute"]?.string != Self.farewell else { return false }
      var reply: [String: JSONValue] = ["return": .object([:])]
      reply["id"] = request["id"]
      try Self.write(JSONValue.object(reply).line, to: accepted)
      client.update { $0 = accepted }
      while let line = try lines.next() { try Self.write(line, to: qemu) }
    } catch {
      // It is gone, or writes no JSON; the next one may do better.
    }
    return true
  }

  private static func write(_ line: String, to socket: StreamSocket) throws {
    try write(Array(line.utf8), to: socket)
  }

  private static func write(_ line: [UInt8], to socket: StreamSocket) throws {
    try unsafe socket.writeAll((line + [UInt8(ascii: "\n")]).span.bytes)
  }
}

/// Lines off a socket, blocking.
private struct LineSource {
  private let socket: StreamSocket
  private var splitter = LineSplitter(bytesMax: QMPMessage.lineLengthMax)
  private var ready: [[UInt8]] = []
  private let buffer = PageBuffer(byteCount: 16 << 10)

  init(_ socket: StreamSocket) { self.socket = socket }

  /// The next line; nil at the end.
  mutating func next() throws -> [UInt8]? {
    while ready.isEmpty {
      let count = try unsafe socket.read(into: buffer.part(0, buffer.byteCount))
      guard count > 0 else { return nil }
      ready = try unsafe splitter.push(buffer.part(0, count))
    }
    return ready.removeFirst()
  }
}

extension MonitorKeeper {
  /// Starts a keeper in a process of its own, and returns once it takes connections.
  ///
  /// - Parameter path: of a monitor that nobody is connected to.
  static func start(_ path: String, logPath: String) async throws {
    let identity = try DaemonProcess.spawn(
      program: "/proc/self/exe", arguments: ["keep-monitor", path], environment: [],
      logPath: logPath)
    let deadlineMs = MonotonicClock.nowMs + 5000
    while MonotonicClock.nowMs < deadlineMs {
      // SAFETY: the path is a NUL-terminated copy for the call.
      if unsafe access(path + suffix, F_OK) == 0 { return }
      guard try await identity.waitForExit(timeoutMs: 20) == nil else { break }
    }
    throw Ending.failed("no process keeps QEMU's monitor open; see \(logPath)")
  }

  /// Tells the keeper of the monitor at `path` to end, if there is one. Blocks for a moment.
  static func end(_ path: String) {
    guard let socket = try? UnixSocket.connect(path: path + suffix) else { return }
    try? write(#"{"execute":"\#(farewell)"}"#, to: socket)
    socket.setTimeout(ms: 1000)
    // Its end is the answer.
    let buffer = PageBuffer(byteCount: 4096)
    while let count = unsafe try? socket.read(into: buffer.part(0, 4096)), count > 0 {}
  }
}
