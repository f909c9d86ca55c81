import Agent
import BlockStore
import HostIO

/// `godwit block move`.
struct GodwitDiskMover: DiskMover {
  /// Between two looks, in milliseconds.
  private static let lookMs = 20
  private static let endMs: UInt64 = 60_000
  /// An answer longer than that is none.
  private static let answerBytesMax = 1 << 20

  let stage: DiskStage
  /// Sockets of backup servers.
  let backups: [String]

  /// What the control socket of `godwit block serve` answers.
  private struct Answer: Decodable {
    var error: ControlError?
    var moves: [MoveStatus]?
  }

  func prepare() async throws {
    guard stage.method == .snapmig else { return }
    try await order("snapshot", ["--manifest", stage.manifest])
  }

  func move() async throws -> MovedDisk {
    var arguments = [
      "nbd://\(stage.host):\(stage.port)/\(DiskStage.copyName)", "--method", stage.method.rawValue,
      "--then", "wait", "--insecure-network", "--detach",
    ]
    if stage.method == .waio { arguments += ["--surrogate", stage.surrogate] }
    if stage.method == .snapmig {
      arguments += ["--manifest", stage.manifest]
      for socket in backups {
        arguments += ["--backup", "nbd+unix:///\(stage.number)?socket=\(socket)"]
      }
    }
    if stage.hosts.kind == .loopback {
      arguments += ["--bandwidth", "\(stage.hosts.linkBytesPerSecond * 8)bit"]
    }
    let startMs = MonotonicClock.nowMs
    try await order("move", arguments)
    while true {
      let status = try await status()
      if status.phase == .mirroring, status.neededBytes == 0 { return moved(status, nil) }
      let isStuck = status.phase == .paused && status.problem != nil
      if status.phase.isOver || status.phase == .interrupted || isStuck {
        return moved(status, status.problem ?? "the move ended as \(status.phase.rawValue)")
      }
      guard MonotonicClock.nowMs - startMs < stage.options.timeoutMs else {
        try await order("cancel", [])
        return moved(status, LabRun.notFinished(stage.options))
      }
      try await Task.sleep(for: .milliseconds(Self.lookMs))
    }
  }

  func finish() async throws {
    try await order("finish", ["--then", "copy"])
    let startMs = MonotonicClock.nowMs
    var status = try await status()
    while status.phase != .copied {
      guard MonotonicClock.nowMs - startMs < Self.endMs, status.phase != .paused else {
        throw LabError("the move does not end (\(status.phase.rawValue)): \(status.problem ?? "")")
      }
      try await Task.sleep(for: .milliseconds(Self.lookMs))
      status = try await self.status()
    }
  }

  private func moved(_ status: MoveStatus, _ reason: String?) -> MovedDisk {
    MovedDisk(
      endUs: MonotonicClock.nowUs, reason: reason, readBytes: status.readBytes,
      wireBytes: status.wireBytes, rounds: status.roundCount, backupBytes: status.backupBytes)
  }

  private func order(_ name: String, _ arguments: [String]) async throws {
    try await Command.run(
      try LabAgent.program(stage.options),
      ["block", name, DiskStage.exportName] + arguments + ["--control", stage.control],
      timeoutMs: Self.endMs)
  }

  /// Asks the control socket itself: a command for each look would cost more than what is looked at.
  private func status() async throws -> MoveStatus {
    let path = stage.control
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
    guard let status = answer.moves?.first else { throw LabError("the server knows of no move") }
    return status
  }
}
