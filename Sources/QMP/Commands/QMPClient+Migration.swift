/// Commands of `qapi/migration.json`.
extension QMPClient {
  /// `query-migrate`, on either side. Before any migration the status is `none` and nearly all else
  /// nil.
  public func queryMigrate(timeoutMs: UInt64? = nil) async throws(QMPError) -> MigrationInfo {
    try await query("query-migrate", timeoutMs: timeoutMs) {
      $0.object == nil ? nil : MigrationInfo($0)
    }
  }

  /// Starts an outgoing migration to `uri`, such as `unix:/run/godwit/x.sock`.
  public func migrate(uri: String) async throws(QMPError) {
    try await execute("migrate", ["uri": .string(uri)])
  }

  /// Tells a QEMU started with `-incoming defer` where to listen.
  ///
  /// `exitOnError` false keeps QEMU alive after a failed load, so that its error can be read; it
  /// exists from 9.1 on and is left out when nil.
  public func migrateIncoming(uri: String, exitOnError: Bool? = nil) async throws(QMPError) {
    var arguments: [String: JSONValue] = ["uri": .string(uri)]
    arguments["exit-on-error"] = exitOnError.map(JSONValue.bool)
    try await execute("migrate-incoming", .object(arguments))
  }

  /// Returns once QEMU has taken note; the migration has ended when its status says so. Without one
  /// nothing happens.
  public func migrateCancel() async throws(QMPError) { try await execute("migrate_cancel") }

  /// Goes on from `pre-switchover`, the state that `pause-before-switchover` stops in.
  public func migrateContinue(state: MigrationStatus = .preSwitchover) async throws(QMPError) {
    try await execute("migrate-continue", ["state": .string(state.name)])
  }

  /// Pauses a post-copy migration. Out of band: it works while the main loop hangs on a page.
  public func migratePause() async throws(QMPError) {
    try await execute("migrate-pause", outOfBand: outOfBandEnabled)
  }

  /// Asks the source to change over to post-copy, which it does a little later. Refused without
  /// the capability `postcopy-ram`, and before a migration has begun.
  public func migrateStartPostcopy() async throws(QMPError) {
    try await execute("migrate-start-postcopy")
  }

  /// Gives a paused post-copy destination a new address to listen on. Out of band.
  public func migrateRecover(uri: String) async throws(QMPError) {
    try await execute("migrate-recover", ["uri": .string(uri)], outOfBand: outOfBandEnabled)
  }

  /// `query-migrate-capabilities`. One entry that isn't understood makes the reply unexpected.
  public func queryMigrateCapabilities() async throws(QMPError) -> MigrationCapabilities {
    try await query("query-migrate-capabilities") { reply in
      guard let elements = reply.array else { return nil }
      var states: [String: Bool] = [:]
      for element in elements {
        guard let name = element["capability"]?.string, let state = element["state"]?.bool else {
          return nil
        }
        states[name] = state
      }
      return MigrationCapabilities(states)
    }
  }

  /// Sets several capabilities in one command; QEMU takes all or none. Does nothing when empty.
  public func migrateSetCapabilities(_ states: [String: Bool]) async throws(QMPError) {
    guard !states.isEmpty else { return }
    let list = states.sorted { $0.key < $1.key }.map { name, state -> JSONValue in
      ["capability": .string(name), "state": .bool(state)]
    }
    try await execute("migrate-set-capabilities", ["capabilities": .array(list)])
  }

  /// `query-migrate-parameters`, unset ones left out as QEMU leaves them out.
  public func queryMigrateParameters() async throws(QMPError) -> MigrationParameters {
    try await query("query-migrate-parameters") { $0.object.map(MigrationParameters.init) }
  }

  /// Sets several parameters in one command. Does nothing when empty.
  public func migrateSetParameters(_ values: [String: JSONValue]) async throws(QMPError) {
    guard !values.isEmpty else { return }
    try await execute("migrate-set-parameters", .object(values))
  }

  /// Puts capabilities and parameters back to what they were when they were read. Parameters first:
  /// some may only be set while a capability is on.
  public func restore(
    capabilities: MigrationCapabilities, parameters: MigrationParameters
  ) async throws(QMPError) {
    try await migrateSetParameters(parameters.changes(from: queryMigrateParameters()))
    try await migrateSetCapabilities(capabilities.changes(from: queryMigrateCapabilities()))
  }

  /// Measures the guest's dirty rate by sampling pages, `1...60` seconds. The result comes later, in
  /// `queryDirtyRate`.
  ///
  /// Only `page-sampling` is offered: QEMU 7.2 crashes in mode `dirty-bitmap` under TCG.
  public func calcDirtyRate(seconds: UInt64, samplePages: UInt64? = nil) async throws(QMPError) {
    var arguments: [String: JSONValue] = [
      "calc-time": JSONValue(seconds), "mode": "page-sampling",
    ]
    arguments["sample-pages"] = samplePages.map { JSONValue($0) }
    try await execute("calc-dirty-rate", .object(arguments))
  }

  /// What the last `calcDirtyRate` found, or that it still measures.
  public func queryDirtyRate() async throws(QMPError) -> DirtyRate {
    try await query("query-dirty-rate", decode: DirtyRate.init)
  }

  /// Sends gratuitous RARP so that switches learn the guest's new place; times in milliseconds.
  public func announceSelf(
    initialMs: UInt64 = 50, maxMs: UInt64 = 550, rounds: UInt64 = 5, stepMs: UInt64 = 100
  ) async throws(QMPError) {
    try await execute(
      "announce-self",
      [
        "initial": JSONValue(initialMs), "max": JSONValue(maxMs), "rounds": JSONValue(rounds),
        "step": JSONValue(stepMs),
      ])
  }
}
