/// What an agent does for the clients of its control socket.
public protocol AgentService: Sendable {
  /// The virtual machines of this host that the agent found or was told about.
  func vms() async throws -> [VMSummary]

  /// Moves a guest. Returns when it has ended, however it ended; `progress` may be called from any
  /// thread and must not block.
  func migrate(
    _ request: MigrationRequest, progress: @Sendable @escaping (MigrationProgress) -> Void
  ) async -> MigrationRecord

  /// The migrations that run now, at either side.
  func status() async -> [MigrationProgress]

  /// Asks for the end of the migration of `vm`; returns once that is under way.
  func cancel(vm: String) async throws

  /// Tries once more to settle what earlier migrations left behind, and tells what became of each.
  func recover(_ request: RecoverRequest) async throws -> [RecoveryItem]

  /// Records what a guest dirties, without moving it. `progress` may be called from any thread and must
  /// not block. Ends when the caller's task is cancelled.
  func trace(
    _ request: TraceRequest, progress: @Sendable @escaping (TraceLook) -> Void
  ) async throws -> TraceRecord

  /// Copies a guest's memory into the vault of another host, once, while it runs. `progress` may be called from any
  /// thread and must not block. Ends when the caller's task is cancelled.
  func warm(
    _ request: WarmRequest, progress: @Sendable @escaping (WarmLook) -> Void
  ) async throws -> WarmRecord

  /// Finds out what a forecast of a migration needs: guest, link, checks. Takes some seconds.
  func plan(_ request: MigrationRequest) async throws -> PlanReport

  /// Lists, verifies or removes what is kept of guests' memory on this host.
  func vault(_ request: VaultRequest) async throws -> [VaultItem]

  /// The latest migrations, newest first; at most `limit`.
  func history(limit: Int) async throws -> [MigrationRecord]
}
