public import Agent
public import Base

/// A line of a results file: the migration's record as `migrate --json` prints it, and beside it, in
/// `lab`, what only the lab knows.
public struct MatrixResult: Codable, Sendable, Equatable {
  public var record: MigrationRecord
  public var lab: Facts

  /// What only the lab knows of the migration: what it was of, where, and what became of the guest.
  public struct Facts: Codable, Sendable, Equatable {
    /// Format of this object.
    public var format = 1
    /// `qemu-xbzrle`, `godwit-timebound`.
    public var method: String
    /// Of guests that were moved at once each has its number behind the names: `0/gang/newest/qemu-precopy#1`.
    public var cell, block, guest, qemu: String
    public var round: Int
    public var seed: UInt64
    /// Of everything that the guest and the network were; cells with different ones are not compared.
    public var fingerprint: String
    public var godwit: String
    /// Of the source tree that the program lay in, `-dirty` behind it where that was changed since; nil outside a checkout.
    @OrNull public var commit: String?
    /// Of the program that agents were started from: the first 16 hexadecimal digits.
    @OrNull public var programSHA256: String?
    public var host: HostFacts
    public var linkBytesPerSecond: UInt64
    /// Each way, where the link has some; nil: that of this machine.
    @OrNull public var linkLatencyMs: UInt64?
    /// Namespaces or loopback.
    public var network: String
    /// How the guest's processors ran: `tcg` or `kvm`.
    @OrNull public var accelerator: String?
    /// Pages written per second as asked for; nil: as fast as it goes.
    @OrNull public var dirtyMiBPerSecond: UInt64?
    /// Bytes of memory written per second before the move, as the guest counted them.
    @OrNull public var dirtyBytesPerSecond: UInt64?
    public var workingSetBytes, timeoutMs: UInt64
    public var damage: [String] = []
    @OrNull public var heartbeatGapMs: UInt64?
    @OrNull public var brokenConnections: UInt64?
    @OrNull public var operationsPerSecond: UInt64?
    @OrNull public var scansAfter: UInt64?
    @OrNull public var throughput: GuestThroughput?
    /// Runs of the guest's kernel that ended with the published result after the move; nil: it has no kernel.
    @OrNull public var kernelRunsAfter: UInt64?
    /// Operations of the clients per 10 ms, from the migration's start on.
    @OrNull public var operationsTimeline: [UInt64]?
    @OrNull public var cost: MoveCost?
    /// Nil where the guest was moved alone.
    @OrNull public var together: Together?
    /// Of a disk that was moved alone; then there was no guest.
    @OrNull public var disk: DiskMeasures?
    /// What others got over the link while this moved; nil: there were none.
    @OrNull public var competingBytesPerSecond: UInt64?
    public var samples: [MigrationSample] = []
  }

  public init(record: MigrationRecord, lab: Facts) { (self.record, self.lab) = (record, lab) }

  private enum CodingKeys: String, CodingKey { case lab }

  public init(from decoder: any Decoder) throws {
    record = try MigrationRecord(from: decoder)
    lab = try decoder.container(keyedBy: CodingKeys.self).decode(Facts.self, forKey: .lab)
  }

  public func encode(to encoder: any Encoder) throws {
    try record.encode(to: encoder)
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(lab, forKey: .lab)
  }

  /// Which build of Godwit this was measured with, for people; nil where the result doesn't say.
  var build: String? {
    switch (lab.commit, lab.programSHA256) {
    case (let commit?, let hash?): "\(commit) (program \(hash))"
    case (let commit?, nil): commit
    case (nil, let hash?): "program \(hash)"
    case (nil, nil): nil
    }
  }

  /// Without what was noted every few milliseconds, which is nine tenths of a line.
  var withoutTimelines: Self {
    var result = self
    result.lab.samples = []
    result.lab.operationsTimeline = nil
    result.lab.throughput?.timeline = []
    return result
  }

  /// The migration completed; whether the guest is sound says `isIntact`.
  public var isDone: Bool { record.outcome == .completed }
  /// Nothing was found wrong with the guest or the disk, wherever it is.
  public var isIntact: Bool { lab.damage.isEmpty }
}
