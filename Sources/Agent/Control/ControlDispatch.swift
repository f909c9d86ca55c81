import HostIO
import NIOCore

/// Writes replies, one a line; suspends until the socket has taken each.
///
/// Straight to the channel: the asynchronous writer only promises to try, and closing drops the rest.
struct ReplyWriter: Sendable {
  /// Whoever writes when the agent ends has so long until the client has taken it.
  private static let patience = TimeAmount.milliseconds(500)

  let channel: any Channel

  func send(_ reply: ControlReply) async throws {
    let line = ByteBuffer(string: try JSONLine.encode(reply) + "\n")
    let written = channel.eventLoop.makePromise(of: Void.self)
    channel.writeAndFlush(line, promise: written)
    try await withTaskCancellationHandler {
      try await written.futureResult.get()
    } onCancel: {
      // A client that doesn't read must not hold up a shutdown; one that does is told how its migration ended after this.
      let closing = channel.eventLoop.scheduleTask(in: Self.patience) {
        channel.close(promise: nil)
      }
      written.futureResult.whenComplete { _ in closing.cancel() }
    }
  }
}

/// Answers one request.
struct ControlDispatch<Agent: AgentService>: Sendable {
  /// `watch` looks at the agent this often.
  static var watchInterval: Duration { .milliseconds(250) }
  /// When the agent ends, a migration that has just ended may take this many hundredths of a second.
  static var lastWordTries: Int { 200 }

  let agent: Agent
  let replies: ReplyWriter

  /// - Throws: `ControlError` for what the client is told, others when the client has left.
  func answer(_ request: ControlRequest) async throws {
    let version = GodwitVersion.current
    guard request.control == version.control || request.command == .version else {
      throw ControlError(
        .protocolMismatch,
        "this agent (godwit \(version.godwit)) speaks control protocol \(version.control), the client "
          + "\(request.control); use the godwit command that was installed with the agent")
    }
    switch request.command {
    case .version: try await once { $0.version = version }
    case .vms:
      let vms = try await told { try await agent.vms() }
      try await once { $0.vms = vms }
    case .status:
      let status = await agent.status()
      try await once { $0.status = status }
    case .watch: try await watch()
    case .history:
      let limit = request.limit ?? 20
      guard (1...ControlRequest.historyLimitMax).contains(limit) else {
        throw ControlError(.usage, "history takes 1 to \(ControlRequest.historyLimitMax) records")
      }
      let records = try await told { try await agent.history(limit: limit) }
      try await once { $0.history = records }
    case .cancel:
      guard let vm = request.vm, !vm.isEmpty else {
        throw ControlError(.usage, "cancel needs the name of a VM")
      }
      try await told { try await agent.cancel(vm: vm) }
      try await once { $0.cancelled = vm }
    case .recover:
      let recovery = request.recovery ?? RecoverRequest()
      let items = try await told { try await agent.recover(recovery) }
      try await once { $0.recovered = items }
    case .migrate:
      guard let migration = request.migration else {
        throw ControlError(.usage, "migrate needs a migration")
      }
      if let problem = migration.problem { throw ControlError(.usage, problem) }
      try await migrate(migration)
    case .plan:
      guard let migration = request.migration else {
        throw ControlError(.usage, "plan needs a migration")
      }
      if let problem = migration.problem { throw ControlError(.usage, problem) }
      let plan = try await told { try await agent.plan(migration) }
      try await once { $0.plan = plan }
    case .vault:
      guard let vault = request.vault else { throw ControlError(.usage, "vault needs an action") }
      if let problem = vault.problem { throw ControlError(.usage, problem) }
      let items = try await told { try await agent.vault(vault) }
      try await once { $0.vault = items }
    case .trace:
      guard let trace = request.trace else { throw ControlError(.usage, "trace needs a trace") }
      if let problem = trace.problem { throw ControlError(.usage, problem) }
      try await self.trace(trace)
    case .warm:
      guard let warm = request.warm else { throw ControlError(.usage, "warm needs a guest") }
      if let problem = warm.problem { throw ControlError(.usage, problem) }
      try await self.warm(warm)
    }
  }

  private func once(_ fill: (inout ControlReply) -> Void) async throws {
    var reply = ControlReply()
    fill(&reply)
    try await replies.send(reply)
  }

  /// Turns the agent's errors into what the client is told.
  private func told<T>(_ body: () async throws -> T) async throws -> T {
    do { return try await body() } catch { throw ControlError(wrapping: error) }
  }

  private func watch() async throws {
    while true {
      let status = await agent.status()
      try await once { $0.status = status }
      try await Task.sleep(for: Self.watchInterval)
    }
  }

  /// Unlike a migration, a trace ends when its client leaves.
  private func trace(_ request: TraceRequest) async throws {
    let record = try await followed { [agent] progress in
      try await agent.trace(request, progress: progress)
    } tell: { (reply: inout ControlReply, look: TraceLook) in
      reply.traceLook = look
    }
    try await once { $0.trace = record }
  }

  /// The same holds for a copy, which may be made again and again.
  private func warm(_ request: WarmRequest) async throws {
    while true {
      let record = try await followed { [agent] progress in
        try await agent.warm(request, progress: progress)
      } tell: { (reply: inout ControlReply, look: WarmLook) in
        reply.warmLook = look
      }
      try await once { $0.warm = record }
      guard let everyMs = request.everyMs else { return }
      try await Task.sleep(for: .milliseconds(everyMs))
    }
  }

  /// Runs `work` and tells the client of its looks meanwhile; a slow client sees fewer of them.
  private func followed<Look: Sendable, Outcome: Sendable>(
    _ work: @escaping @Sendable (@escaping @Sendable (Look) -> Void) async throws -> Outcome,
    tell: @escaping @Sendable (inout ControlReply, Look) -> Void
  ) async throws -> Outcome {
    let (looks, feed) = AsyncStream<Look>.makeStream(bufferingPolicy: .bufferingNewest(1))
    return try await withThrowingTaskGroup(of: Outcome?.self) { group in
      group.addTask {
        defer { feed.finish() }
        do { return try await work { feed.yield($0) } } catch {
          throw error is CancellationError ? error : ControlError(wrapping: error)
        }
      }
      group.addTask {
        for await look in looks { try await once { tell(&$0, look) } }
        return nil
      }
      var outcome: Outcome?
      while let result = try await group.next() { outcome = result ?? outcome }
      guard let outcome else { throw CancellationError() }
      return outcome
    }
  }

  private func migrate(_ request: MigrationRequest) async throws {
    // A slow client sees fewer looks, never old ones; nothing piles up.
    let (looks, feed) = AsyncStream<MigrationProgress>.makeStream(
      bufferingPolicy: .bufferingNewest(1))
    // Unstructured on purpose: the migration goes on when its client leaves.
    let ended = Guarded<MigrationRecord?>(nil)
    let migration = Task { [agent] in
      defer { feed.finish() }
      let record = await agent.migrate(request) { feed.yield($0) }
      ended.update { $0 = record }
      return record
    }
    for await look in looks {
      guard !Task.isCancelled else { break }
      try await once { $0.progress = look }
    }
    guard Task.isCancelled else {
      let record = await migration.value
      return try await once { $0.record = record }
    }
    // The agent ends, after its migrations: how this one ended is still told, in a task that isn't
    // cancelled.
    try await Task {
      for _ in 0..<Self.lastWordTries where ended.read({ $0 }) == nil {
        try await Task.sleep(for: .milliseconds(10))
      }
      guard let record = ended.read({ $0 }) else { throw CancellationError() }
      try await once { $0.record = record }
    }.value
  }
}
