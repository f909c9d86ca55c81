/// `query-migrate`: every field of QEMU 7.2 to 11. What QEMU did not say is nil.
public struct MigrationInfo: Sendable, Hashable {
  /// `MigrationStats` of guest RAM. Sizes in bytes unless the name says otherwise.
  public struct RAM: Sendable, Hashable {
    public let transferred, remaining, total: UInt64
    /// Zero pages and normal pages, in pages; `skipped` ended with 8.1.
    public let duplicate, normal, normalBytes: UInt64
    public let skipped: UInt64?
    /// Pages per second.
    public let dirtyPagesRate, pagesPerSecond: UInt64
    /// QEMU's `mbps`, as bits per second.
    public let bitsPerSecond: UInt64?
    /// Passes over the dirty log.
    public let dirtySyncCount: UInt64
    public let dirtySyncMissedZeroCopy: UInt64?
    public let postcopyRequests, pageSize, multifdBytes: UInt64
    public let precopyBytes, downtimeBytes, postcopyBytes: UInt64?
  }

  public let status: MigrationStatus
  public let ram: RAM?
  /// Milliseconds.
  public let totalTimeMs, expectedDowntimeMs, downtimeMs, setupTimeMs: UInt64?
  public let errorDescription: String?
  /// Why this VM cannot be migrated at all, in QEMU's words; empty when it can.
  public let blockedReasons: [String]
  /// Auto-converge, per cent.
  public let cpuThrottlePercentage: UInt64?
  /// Milliseconds that vCPUs were blocked in post-copy.
  public let postcopyBlocktimeMs: UInt64?
  public let postcopyVCPUBlocktimeMs: [UInt64]
  /// Time to serve a page fault in post-copy, in nanoseconds; 10.1 and later: over all, per vCPU, and
  /// of other threads.
  public let postcopyLatencyNs: UInt64?
  public let postcopyVCPULatencyNs: [UInt64]
  public let postcopyNonVCPULatencyNs: UInt64?
  /// Faults per power of two of microseconds.
  public let postcopyLatencyDistribution: [UInt64]
  /// Microseconds.
  public let dirtyLimitThrottleUsPerRound, dirtyLimitRingFullUs: UInt64?
  /// Bytes of VFIO state sent; nil without such a device.
  public let vfioTransferred: UInt64?
  /// Block migration, ended with 9.1.
  public let disk: JSONValue?
  public let xbzrleCache, compression: JSONValue?
  /// Where an incoming QEMU listens.
  public let socketAddresses: [JSONValue]
  /// The reply itself, for fields that came later.
  public let raw: JSONValue

  /// Takes whatever is there: a reply without a status has the status `none`, one that isn't known
  /// is kept as `unknown`.
  public init(_ json: JSONValue) {
    func number(_ name: String) -> UInt64? { json[name]?.uint64 }
    func numbers(_ name: String) -> [UInt64] { (json[name]?.array ?? []).compactMap(\.uint64) }
    // Before the first migration the reply is an empty object.
    status = json["status"]?.string.map(MigrationStatus.init) ?? .none
    ram = json["ram"].flatMap(RAM.init)
    (totalTimeMs, setupTimeMs) = (number("total-time"), number("setup-time"))
    (expectedDowntimeMs, downtimeMs) = (number("expected-downtime"), number("downtime"))
    errorDescription = json["error-desc"]?.string
    blockedReasons = (json["blocked-reasons"]?.array ?? []).compactMap(\.string)
    cpuThrottlePercentage = number("cpu-throttle-percentage")
    postcopyBlocktimeMs = number("postcopy-blocktime")
    postcopyVCPUBlocktimeMs = numbers("postcopy-vcpu-blocktime")
    postcopyLatencyNs = number("postcopy-latency")
    postcopyVCPULatencyNs = numbers("postcopy-vcpu-latency")
    postcopyNonVCPULatencyNs = number("postcopy-non-vcpu-latency")
    postcopyLatencyDistribution = numbers("postcopy-latency-dist")
    dirtyLimitThrottleUsPerRound = number("dirty-limit-throttle-time-per-round")
    dirtyLimitRingFullUs = number("dirty-limit-ring-full-time")
    vfioTransferred = json["vfio"]?["transferred"]?.uint64
    disk = json["disk"]
    (xbzrleCache, compression) = (json["xbzrle-cache"], json["compression"])
    socketAddresses = json["socket-address"]?.array ?? []
    raw = json
  }
}

extension MigrationInfo.RAM {
  init?(_ json: JSONValue) {
    // These have been there since 2012; without them it is not this struct.
    guard let transferred = json["transferred"]?.uint64, let total = json["total"]?.uint64,
      let remaining = json["remaining"]?.uint64
    else { return nil }
    func number(_ name: String) -> UInt64 { json[name]?.uint64 ?? 0 }
    (self.transferred, self.remaining, self.total) = (transferred, remaining, total)
    duplicate = number("duplicate")
    normal = number("normal")
    normalBytes = number("normal-bytes")
    skipped = json["skipped"]?.uint64
    dirtyPagesRate = number("dirty-pages-rate")
    pagesPerSecond = number("pages-per-second")
    bitsPerSecond = json["mbps"]?.scaled(by: 1_000_000)
    dirtySyncCount = number("dirty-sync-count")
    dirtySyncMissedZeroCopy = json["dirty-sync-missed-zero-copy"]?.uint64
    postcopyRequests = number("postcopy-requests")
    pageSize = json["page-size"]?.uint64 ?? 4096
    multifdBytes = number("multifd-bytes")
    precopyBytes = json["precopy-bytes"]?.uint64
    downtimeBytes = json["downtime-bytes"]?.uint64
    postcopyBytes = json["postcopy-bytes"]?.uint64
  }
}
