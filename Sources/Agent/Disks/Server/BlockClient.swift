public import BlockStore
public import HostIO

/// Asks a server of disks (`godwit block serve`) over its control socket.
public struct BlockClient: Sendable {
  /// Added to the path of a server's socket for clients.
  public static let suffix = ".control"

  public let path: String
  private let timeoutMs: UInt64

  /// - Parameter timeoutMs: how long an answer may take, in milliseconds; 0: as long as it takes.
  public init(path: String, timeoutMs: UInt64 = 0) {
    (self.path, self.timeoutMs) = (path, timeoutMs)
  }

  /// As `exchange`, for requests that are answered by moves; empty where the reply has none.
  public func ask(_ request: BlockRequest) async throws -> [MoveStatus] {
    try await exchange(request).moves ?? []
  }

  /// One request, on a connection and a thread of its own. Throws the server's `ControlError`,
  /// `noAgent` where nobody answers at the path, and `protocolMismatch` where the server closes
  /// without a word.
  public func exchange(_ request: BlockRequest) async throws -> BlockReply {
    let (path, timeoutMs) = (path, timeoutMs)
    let line = try JSONLine.encode(request) + "\n"
    let answer = try await WorkerThread.run("block-ask") { () throws -> [UInt8]? in
      let socket: StreamSocket
      do {
        socket = try UnixSocket.connect(path: path, timeoutMs: timeoutMs)
      } catch {
        throw ControlError(.noAgent, "no server of disks answers at \(path): \(error)")
      }
      defer { socket.shutdown() }
      let bytes = Array(line.utf8)
      // SAFETY: the array outlives the call.
      try unsafe socket.writeAll(bytes.span.bytes)
      return try BlockLine.read(socket)
    }
    guard let answer else {
      throw ControlError(.protocolMismatch, "the server at \(path) closed without an answer")
    }
    let reply = try JSONLine.decode(BlockReply.self, from: answer)
    if let error = reply.error { throw error }
    return reply
  }
}

/// One line over a socket.
public enum BlockLine {
  /// nil: the other side has gone before a whole line.
  public static func read(_ socket: StreamSocket) throws -> [UInt8]? {
    var (line, piece): ([UInt8], [UInt8]) = ([], [UInt8](repeating: 0, count: 4096))
    while line.count <= BlockRequest.bytesMax {
      // SAFETY: the piece's own address and size.
      let count = try unsafe piece.withUnsafeMutableBytes { try unsafe socket.read(into: $0) }
      guard count > 0 else { return nil }
      if let end = piece[..<count].firstIndex(of: UInt8(ascii: "\n")) {
        return line + piece[..<end]
      }
      line += piece[..<count]
    }
    throw ControlError(.usage, "a line has at most \(BlockRequest.bytesMax) bytes")
  }
}
