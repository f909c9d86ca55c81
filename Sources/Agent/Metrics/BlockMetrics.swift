import Base
public import BlockStore
import DiskStrategy
import HostIO

/// All metrics of a server of disks as one text.
///
/// Only the server's exports have labels of their own, so the number of series is bounded; where a disk goes to isn't
/// among them: everybody who can connect reads this.
public struct BlockMetrics: Sendable {
  static let prefix = "godwit_block_"

  /// One disk at one instant.
  struct Disk {
    let export: String
    let byteCount: UInt64
    let isReadOnly: Bool
    let requests: [(kind: DiskRequestKind, requests: UInt64, bytes: UInt64)]
    let errors: [DiskErrorKind: UInt64]
    let move: MoveStatus?
    let pull: DiskPullStatus?
  }

  var version: String
  /// Seconds since 1970.
  var startedAtSeconds: Int64
  var connectionCount, connectionsMax: Int
  var disks: [Disk]

  /// What a server is at this instant. Takes locks.
  ///
  /// - Parameters:
  ///   - startedAtSeconds: since 1970.
  ///   - connectionsMax: clients that may be connected at once.
  public init(
    _ server: DiskServer, _ disks: [ServedDisk], startedAtSeconds: Int64, connectionsMax: Int
  ) {
    version = GodwitVersion.current.godwit
    (self.startedAtSeconds, self.connectionsMax) = (startedAtSeconds, connectionsMax)
    connectionCount = server.connectionCount
    self.disks = disks.map { disk in
      let store = disk.store as? MovableStore
      return Disk(
        export: disk.name, byteCount: disk.store.byteCount,
        isReadOnly: disk.store.traits.isReadOnly,
        requests: DiskRequestKind.allCases.map { kind in
          let use = disk.use(kind)
          return (kind, use.requests, use.bytes)
        }, errors: disk.errorCounts, move: store?.moveStatus, pull: store?.pullStatus)
    }
  }

  init(version: String, startedAtSeconds: Int64, _ disks: [Disk]) {
    (self.version, self.startedAtSeconds, self.disks) = (version, startedAtSeconds, disks)
    (connectionCount, connectionsMax) = (0, 0)
  }

  /// In Prometheus's text format.
  public var text: String {
    var out = MetricsText()
    addServer(&out)
    addRequests(&out)
    addMoves(&out)
    addPulls(&out)
    return out.text
  }

  private func addServer(_ out: inout MetricsText) {
    out.begin(Self.prefix + "info", .gauge, "The server's version; always 1.")
    out.add(.count(1), [("version", version)])
    out.begin(Self.prefix + "start_time_seconds", .gauge, "When the server started.")
    out.add(.count(UInt64(max(startedAtSeconds, 0))))
    out.begin(Self.prefix + "connections", .gauge, "Clients that are connected.")
    out.add(.count(UInt64(connectionCount)))
    out.begin(Self.prefix + "connections_max", .gauge, "Limit of clients at once.")
    out.add(.count(UInt64(connectionsMax)))
    each(&out, "size_bytes", .gauge, "Size of the disk.") { .count($0.byteCount) }
    each(&out, "read_only", .gauge, "1 when nobody may write.") { .count($0.isReadOnly ? 1 : 0) }
  }

  private func addRequests(_ out: inout MetricsText) {
    out.begin(Self.prefix + "requests_total", .counter, "Clients' requests, by what they ask.")
    for disk in disks {
      for use in disk.requests {
        out.add(.count(use.requests), [("export", disk.export), ("request", use.kind.rawValue)])
      }
    }
    out.begin(Self.prefix + "request_bytes_total", .counter, "Bytes of the requests' ranges.")
    for disk in disks {
      for use in disk.requests where use.kind != .flush {
        out.add(.count(use.bytes), [("export", disk.export), ("request", use.kind.rawValue)])
      }
    }
    out.begin(
      Self.prefix + "request_errors_total", .counter,
      "Requests that failed, by what they asked and what the client was told; request=\"refused\": malformed or not allowed."
    )
    for disk in disks {
      // Reads and writes have a series from the beginning, so that the first error is an increase.
      var errors: [[String]: UInt64] = [["read", "EIO"]: 0, ["write", "EIO"]: 0]
      for (kind, count) in disk.errors {
        errors[[kind.request?.rawValue ?? "refused", kind.error]] = count
      }
      for (kind, count) in errors.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
        out.add(
          .count(count), [("export", disk.export), ("request", kind[0]), ("error", kind[1])])
      }
    }
  }

  /// A sample of each disk that has a value.
  private func each(
    _ out: inout MetricsText, _ name: String, _ kind: MetricsText.Kind, _ help: String,
    _ value: (Disk) -> MetricValue?
  ) {
    out.begin(Self.prefix + name, kind, help)
    for disk in disks { out.add(value(disk), [("export", disk.export)]) }
  }

  /// 1 for the phase that a disk is in, and 0 for the others.
  private func phases<Phase: RawRepresentable<String> & Equatable>(
    _ out: inout MetricsText, _ name: String, _ help: String, _ all: [Phase],
    _ phase: (Disk) -> Phase?
  ) {
    out.begin(Self.prefix + name, .gauge, help)
    for disk in disks {
      guard let now = phase(disk) else { continue }
      for one in all {
        out.add(.count(one == now ? 1 : 0), [("export", disk.export), ("phase", one.rawValue)])
      }
    }
  }
}

extension BlockMetrics {
  private func addMoves(_ out: inout MetricsText) {
    phases(
      &out, "move_phase", "1 for the phase of the disk's move, the last one included.",
      MovePhase.allCases
    ) { $0.move?.phase }
    func each(
      _ name: String, _ help: String, _ value: (MoveStatus) -> MetricValue?
    ) { self.each(&out, "move_" + name, .gauge, help) { $0.move.flatMap(value) } }
    each("problem", "1 when something keeps the move from going on.") {
      .count($0.problem == nil ? 0 : 1)
    }
    each("remaining_bytes", "What the destination lacks.") { .count($0.neededBytes) }
    each("arrived_bytes", "What has arrived at the destination.") { .count($0.arrivedBytes) }
    each("wire_bytes", "What of that went as data.") { .count($0.wireBytes) }
    each("read_bytes", "Read from the disk for the move alone.") { .count($0.readBytes) }
    each("rate_bytes", "What arrives, per second.") { $0.bytesPerSecond.map { .count($0) } }
    each("eta_seconds", "Expected time to the end.") { $0.etaMs.map { .milli($0) } }
    each("connections", "Connections to the destination that were opened.") {
      .count($0.connectionCount)
    }
    each("pause_seconds", "How long the clients' writes waited at the end.") {
      $0.pauseUs.map { .milli($0 / 1000) }
    }
    each("surrogate_only_bytes", "Bytes whose newest content is only in the surrogate.") {
      $0.surrogate.map { .count($0.onlyHereBytes) }
    }
  }

  private func addPulls(_ out: inout MetricsText) {
    phases(
      &out, "pull_phase", "1 for the phase of the disk's pull, the last one included.",
      DiskPullPhase.allCases
    ) { $0.pull?.phase }
    func each(
      _ name: String, _ kind: MetricsText.Kind, _ help: String,
      _ value: (DiskPullStatus) -> MetricValue?
    ) { self.each(&out, "pull_" + name, kind, help) { $0.pull.flatMap(value) } }
    each("problem", .gauge, "1 when something keeps the pull from going on.") {
      .count($0.problem == nil ? 0 : 1)
    }
    each("remaining_bytes", .gauge, "What isn't here yet.") { .count($0.missingBytes) }
    each("fetched_bytes", .gauge, "What came from the source as data.") { .count($0.fetchedBytes) }
    each("rate_bytes", .gauge, "What comes, per second.") { $0.bytesPerSecond.map { .count($0) } }
    each("eta_seconds", .gauge, "Expected time to the end.") { $0.etaMs.map { .milli($0) } }
    each("faults_total", .counter, "Requests that had to wait for the source.") {
      .count($0.faults)
    }
    each("failed_faults_total", .counter, "Those that waited in vain.") { .count($0.failedFaults) }
    each("fault_max_seconds", .gauge, "The longest of these waits.") {
      $0.faultMaxUs.map { .milli($0 / 1000) }
    }
    each("connections", .gauge, "Connections to the source that were opened.") {
      .count($0.connectionCount)
    }
  }
}
