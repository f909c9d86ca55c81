import Base

/// All metrics of an agent as one text. Pure.
///
/// Names follow KubeVirt's `kubevirt_vmi_migration_*`, with a prefix of our own. Only migrations that
/// run have labels of their own, so the number of series is bounded by the limits.
struct AgentMetrics {
  static let prefix = "godwit_"

  var version: String
  /// Seconds since 1970: now, and when the agent started.
  var nowSeconds, startedAtSeconds: Int64
  var isReady: Bool
  var configuration: AgentConfiguration
  var counters: AgentCounters
  var running: [MigrationProgress]

  var text: String {
    var out = MetricsText()
    addAgent(&out)
    addTotals(&out)
    addRunning(&out)
    return out.text
  }

  private func addAgent(_ out: inout MetricsText) {
    func seconds(_ value: Int64) -> MetricValue { .count(UInt64(max(value, 0))) }
    out.begin(Self.prefix + "agent_info", .gauge, "The agent's version; always 1.")
    out.add(.count(1), [("version", version)])
    out.begin(Self.prefix + "agent_start_time_seconds", .gauge, "When the agent started.")
    out.add(seconds(startedAtSeconds))
    out.begin(Self.prefix + "agent_ready", .gauge, "1 while new migrations may begin.")
    out.add(.count(isReady ? 1 : 0))
    out.begin(Self.prefix + "agent_migrations_max", .gauge, "Limit of migrations at once.")
    out.add(.count(UInt64(configuration.outgoingMax)), [("side", "source")])
    out.add(.count(UInt64(configuration.incomingMax)), [("side", "destination")])
    out.begin(
      Self.prefix + "agent_bandwidth_max_bytes", .gauge,
      "Limit of all outgoing migrations together, per second; none where there is no limit.")
    out.add(configuration.bandwidth.map { .count($0.bytesPerSecond) })
  }

  private func addTotals(_ out: inout MetricsText) {
    out.begin(Self.prefix + "migrations_ended_total", .counter, "Migrations by how they ended.")
    let outcomes: [MigrationRecord.Outcome] = [.completed, .failed, .cancelled, .refused]
    for side in ["source", "destination"] {
      for outcome in outcomes.map(\.rawValue) {
        let ending = AgentCounters.Ending(side: side, outcome: outcome)
        out.add(.count(counters.ended[ending] ?? 0), [("side", side), ("outcome", outcome)])
      }
    }
    out.begin(Self.prefix + "migrations_in_phase", .gauge, "Migrations that run, by phase.")
    for side in ["source", "destination"] {
      for phase in MigrationPhase.allCases where phase != .done {
        let count = running.count { $0.side == side && $0.phase == phase }
        out.add(.count(UInt64(count)), [("side", side), ("phase", phase.rawValue)])
      }
    }
    let sending = running.filter { $0.side == "source" }.reduce(0) { $0 &+ $1.wireBytes }
    out.begin(
      Self.prefix + "migration_data_bytes_total", .counter, "Bytes sent by outgoing migrations.")
    out.add(.count(counters.wireBytes &+ sending))
    out.begin(
      Self.prefix + "migration_pages_total", .counter,
      "Pages of outgoing migrations that have ended, by how they crossed the network.")
    for (kind, _) in MigrationRecord.Pages().byKind {
      out.add(.count(counters.pages[kind] ?? 0), [("kind", kind)])
    }
    out.begin(
      Self.prefix + "migration_duration_seconds", .histogram,
      "Time that completed outgoing migrations took.")
    out.add(counters.durations)
    out.begin(
      Self.prefix + "migration_downtime_seconds", .histogram,
      "Pause of the guest in completed outgoing migrations.")
    out.add(counters.downtimes)
    out.begin(
      Self.prefix + "migration_eta_error_ratio", .histogram,
      "Mean error of the ETA of completed outgoing migrations, as a part of the whole time.")
    out.add(counters.etaErrors)
  }

  private func addRunning(_ out: inout MetricsText) {
    func each(
      _ name: String, _ help: String, _ value: (MigrationProgress) -> MetricValue?
    ) {
      out.begin(Self.prefix + "migration_" + name, .gauge, help)
      for look in running {
        out.add(value(look), [("vm", look.vm), ("peer", look.peer), ("side", look.side)])
      }
    }
    each("start_time_seconds", "When the migration began.") {
      .count(UInt64(max(nowSeconds - Int64(clamping: $0.elapsedMs / 1000), 0)))
    }
    each("progress_ratio", "Share of the work that is done.") {
      .milli(min($0.progressPermille, 1000))
    }
    each("data_total_bytes", "Guest RAM.") { .count($0.ramBytes) }
    each("data_processed_bytes", "Bytes put on the network so far.") { .count($0.wireBytes) }
    each("data_remaining_bytes", "Memory that is still dirty.") { .count($0.remainingBytes) }
    each("dirty_memory_rate_bytes", "How fast the guest dirties memory, per second.") {
      $0.dirtyBytesPerSecond.map { .count($0) }
    }
    each("memory_transfer_rate_bytes", "Bytes on the network, per second.") {
      .count($0.wireBytesPerSecond)
    }
    each("eta_seconds", "Expected time to the end.") { $0.etaMs.map { .milli($0) } }
    each("eta_low_seconds", "Earliest end that recent looks expected.") {
      $0.etaLowMs.map { .milli($0) }
    }
    each("eta_high_seconds", "Latest end that recent looks expected.") {
      $0.etaHighMs.map { .milli($0) }
    }
    each("waited_seconds", "For how long nothing has come through, while that is so.") {
      $0.waitedMs.map { .milli($0) }
    }
    each("expected_downtime_seconds", "Pause if the guest were stopped now.") {
      $0.expectedDowntimeMs.map { .milli($0) }
    }
    each("working_set_bytes", "Distinct memory that the guest dirties in a pass.") {
      $0.workingSetBytes.map { .count($0) }
    }
  }
}
