import Glibc
import NIOCore
import NIOPosix

/// What `migrate` tells while it runs; `finished` is the last one.
public enum MigrationUpdate: Sendable, Equatable {
  case progress(MigrationProgress)
  case finished(MigrationRecord)
}

/// What `trace` tells while it runs; `finished` is the last one.
public enum TraceUpdate: Sendable, Equatable {
  case look(TraceLook)
  case finished(TraceRecord)
}

/// What `warm` tells while it runs.
public enum WarmUpdate: Sendable, Equatable {
  case look(WarmLook)
  /// A pass is through.
  case pass(WarmRecord)
}

/// Talks to an agent over its control socket; every call opens a connection of its own.
///
/// All calls throw `ControlError`.
public struct ControlClient: Sendable {
  public let path: String

  public init(path: String = ControlSocket.defaultPath) { self.path = path }

  /// Of the agent's program, which needn't be this one.
  public func version() async throws -> GodwitVersion {
    try await one(ControlRequest(.version)) { $0.version }
  }

  /// The QEMUs of the agent's host. Each one's monitor is asked, which may take a moment.
  public func vms() async throws -> [VMSummary] {
    try await one(ControlRequest(.vms)) { $0.vms }
  }

  /// What runs now, out of the agent's host and into it; empty when nothing does.
  public func status() async throws -> [MigrationProgress] {
    try await one(ControlRequest(.status)) { $0.status }
  }

  /// The latest migrations, newest first. `limit`: `1...ControlRequest.historyLimitMax`.
  public func history(limit: Int) async throws -> [MigrationRecord] {
    var request = ControlRequest(.history)
    request.limit = limit
    return try await one(request) { $0.history }
  }

  /// Returns once the end is under way; what is past its commit goes on all the same. Throws where
  /// no migration of that VM runs out of the agent's host.
  public func cancel(vm: String) async throws {
    var request = ControlRequest(.cancel)
    request.vm = vm
    _ = try await one(request) { $0.cancelled }
  }

  /// What earlier migrations left behind, after one more try to settle it.
  public func recover(_ recovery: RecoverRequest) async throws -> [RecoveryItem] {
    var request = ControlRequest(.recover)
    request.recovery = recovery
    return try await one(request) { $0.recovered }
  }

  /// Starts a migration and follows it. Leaving the stream early doesn't end the migration.
  public func migrate(
    _ migration: MigrationRequest
  ) -> AsyncThrowingStream<MigrationUpdate, any Error> {
    var request = ControlRequest(.migrate)
    request.migration = migration
    return stream(request) { reply in
      if let record = reply.record { return .finished(record) }
      return reply.progress.map { .progress($0) }
    }
  }

  /// What a forecast of a migration needs; takes some seconds.
  public func plan(_ migration: MigrationRequest) async throws -> PlanReport {
    var request = ControlRequest(.plan)
    request.migration = migration
    return try await one(request) { $0.plan }
  }

  /// What is kept of guests' memory on this host; verifying reads all of it.
  public func vault(_ vault: VaultRequest) async throws -> [VaultItem] {
    var request = ControlRequest(.vault)
    request.vault = vault
    return try await one(request) { $0.vault }
  }

  /// Records what a guest dirties; leaving the stream early ends that.
  public func trace(_ trace: TraceRequest) -> AsyncThrowingStream<TraceUpdate, any Error> {
    var request = ControlRequest(.trace)
    request.trace = trace
    return stream(request) { reply in
      if let record = reply.trace { return .finished(record) }
      return reply.traceLook.map { .look($0) }
    }
  }

  /// Copies a guest's memory to another host's vault; leaving the stream early ends that.
  public func warm(_ warm: WarmRequest) -> AsyncThrowingStream<WarmUpdate, any Error> {
    var request = ControlRequest(.warm)
    request.warm = warm
    return stream(request) { reply in
      if let record = reply.warm { return .pass(record) }
      return reply.warmLook.map { .look($0) }
    }
  }

  /// Everything that runs, several times a second, until the caller leaves the stream.
  public func watch() -> AsyncThrowingStream<[MigrationProgress], any Error> {
    stream(ControlRequest(.watch)) { $0.status }
  }

  private func one<T: Sendable>(
    _ request: ControlRequest, _ pick: @Sendable @escaping (ControlReply) -> T?
  ) async throws -> T {
    for try await value in stream(request, pick) { return value }
    throw ControlError(.protocolMismatch, "the agent at \(path) closed without an answer")
  }

  /// Newest values win when the caller is slow; the last one is never lost.
  private func stream<T: Sendable>(
    _ request: ControlRequest, _ pick: @Sendable @escaping (ControlReply) -> T?
  ) -> AsyncThrowingStream<T, any Error> {
    AsyncThrowingStream(bufferingPolicy: .bufferingNewest(16)) { feed in
      let task = Task {
        do {
          try await exchange(request) { reply in
            if let error = reply.error { throw error }
            guard let value = pick(reply) else {
              throw ControlError(.protocolMismatch, "the agent at \(path) answered something else")
            }
            feed.yield(value)
          }
          feed.finish()
        } catch let error as ControlError {
          feed.finish(throwing: error)
        } catch is CancellationError {
          feed.finish(throwing: CancellationError())
        } catch {
          feed.finish(throwing: ControlError(.failed, "the agent at \(path) went away: \(error)"))
        }
      }
      feed.onTermination = { _ in task.cancel() }
    }
  }

  private func exchange(
    _ request: ControlRequest, _ take: @Sendable (ControlReply) throws -> Void
  ) async throws {
    let line = try JSONLine.encode(request)
    let channel = try await connect()
    try await channel.executeThenClose { inbound, outbound in
      try await outbound.write(ByteBuffer(string: line + "\n"))
      var splitter = LineSplitter(bytesMax: ControlReply.bytesMax)
      for try await piece in inbound {
        for line in try splitter.push(piece.readableBytesView) {
          guard let reply = try? JSONLine.decode(ControlReply.self, from: line) else {
            throw ControlError(.protocolMismatch, "what listens at \(path) is no Godwit agent")
          }
          try take(reply)
        }
      }
    }
  }

  private func connect() async throws -> NIOAsyncChannel<ByteBuffer, ByteBuffer> {
    do {
      return try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
        .connectTimeout(.seconds(5))
        .connect(unixDomainSocketPath: path) { channel in
          channel.eventLoop.makeCompletedFuture {
            try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
          }
        }
    } catch let error as IOError where error.errnoCode == EACCES || error.errnoCode == EPERM {
      throw ControlError(.noAgent, "no permission for \(path): only root and the agent's own user")
    } catch {
      throw ControlError(
        .noAgent,
        "no agent answers at \(path): start `godwit agent`, or name its socket with --control-socket"
      )
    }
  }
}
