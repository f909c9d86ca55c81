import Agent
import BlockStore
import HostIO

/// The control socket of a `godwit block serve`.
struct DiskControl: Sendable {
  private static let orderMs: UInt64 = 60_000
  /// An answer longer than that is none.
  private static let answerBytesMax = 1 << 20

  let path: String
  /// The `godwit` that gives orders.
  let program: String

  /// What is known of the disk.
  struct Answer: Decodable {
    var error: ControlError?
    var moves: [MoveStatus]?
    var pulls: [DiskPullStatus]?
  }

  /// Carries out `godwit block NAME` for the disk.
  func order(_ name: String, _ arguments: [String]) async throws {
    try await Command.run(
      program, ["block", name, DiskStage.exportName] + arguments + ["--control", path],
      timeoutMs: Self.orderMs)
  }

  /// Asks the socket itself: a command for each look would cost more than what is looked at.
  func status() async throws -> Answer {
    let path = path
    let line = try await WorkerThread.run("disk-look") { () throws -> [UInt8] in
      let socket = try UnixSocket.connect(path: path)
      defer { socket.shutdown() }
      let request = Array(
        "{\"block\":1,\"command\":\"status\",\"disk\":\"\(DiskStage.exportName)\"}\n".utf8)
      // SAFETY: a view of the array's own bytes, which live as long as the call.
      try unsafe socket.writeAll(request.span.bytes)
      var (line, chunk): ([UInt8], [UInt8]) = ([], Array(repeating: 0, count: 4096))
      while line.last != 10, line.count < Self.answerBytesMax {
        // SAFETY: the buffer lives for the call, and its own count bounds it.
        let count = try unsafe chunk.withUnsafeMutableBytes { try unsafe socket.read(into: $0) }
        guard count > 0 else { break }
        line += chunk[..<count]
      }
      return line
    }
    let answer = try JSONLine.decode(Answer.self, from: line)
    if let error = answer.error { throw error }
    return answer
  }
}
