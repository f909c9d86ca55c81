import BlockStore

extension AttachedDisk {
  /// How long a server may take to say how it is, in milliseconds.
  static let answerMs: UInt64 = 10_000

  /// Why its server can't be told to move it now (nil: it can, as far as can be seen before it is told), and whether the
  /// image alone is the disk, so that another host that has the image has the disk as well.
  func look() async -> (obstacle: Refusal?, imageIsDisk: Bool) {
    let client = BlockClient(path: control, timeoutMs: Self.answerMs)
    let reply: BlockReply
    do { reply = try await client.exchange(BlockRequest(.status, disk: export)) } catch {
      let refusal = Refusal(
        .disks, "the server of the disk \(name) takes no orders: \(TerminalText.plain("\(error)"))",
        remedy:
          "start it so that it takes them at \(control), for this agent's user (godwit block serve --control)"
      )
      return (refusal, false)
    }
    return (obstacle(reply), reply.away == nil)
  }

  private func obstacle(_ reply: BlockReply) -> Refusal? {
    let remedy = "see `godwit block status --socket \(socket)`, and end that first"
    if let move = reply.moves?.first, !move.phase.isOver || move.phase == .switched {
      return Refusal(
        .disks,
        "the disk \(name) is \(move.phase.rawValue) already, to \(TerminalText.plain(move.destination))",
        remedy: remedy)
    }
    if let pull = reply.pulls?.first, !pull.phase.isOver {
      return Refusal(
        .disks, "the disk \(name) is still being pulled (\(pull.phase.rawValue))", remedy: remedy)
    }
    return nil
  }
}
