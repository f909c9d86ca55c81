public import Base
public import Strategy

/// Many moves at once, over the network cards of their hosts and the uplinks of their racks.
public struct FleetSetup: Sendable, Equatable {
  public var moveCount: Int
  /// Hosts that are emptied, and as many that take the guests in.
  public var hostCount: Int
  public var hostsPerRack: Int
  /// Of a host, each way, and of a rack's uplink, each way, in bytes per second.
  public var hostRate, rackRate: Double
  /// Moves that a host begins or takes in at the same time, at least 1.
  public var perHostMax: Int
  /// Moves in progress in the whole fleet, at least 1.
  public var totalMax: Int
  public var strategy: StrategyName
  public var constraints: MigrationConstraints
  public var canPull = false
  /// RAM of the guests: a power of two times `ramLeast`, at most `ramMost`, the smaller the more frequent.
  public var ramLeast, ramMost: ByteCount
  /// Writes of the busiest guests, as a multiple of an even share of their host's link.
  public var busiest = 1.5

  /// Counts below their least are raised to it; `hosts` are emptied, and as many take the guests
  /// in.
  public init(
    moves: Int, hosts: Int, hostsPerRack: Int = 20, hostRate: ByteRate, rackRate: ByteRate,
    perHostMax: Int = 4, totalMax: Int = .max, strategy: StrategyName = .auto,
    constraints: MigrationConstraints = MigrationConstraints(),
    ramLeast: ByteCount = .mebibytes(4096), ramMost: ByteCount = .mebibytes(65_536)
  ) {
    (moveCount, hostCount) = (max(moves, 0), max(hosts, 1))
    self.hostsPerRack = max(hostsPerRack, 1)
    (self.hostRate, self.rackRate) = (
      Double(hostRate.bytesPerSecond), Double(rackRate.bytesPerSecond)
    )
    (self.perHostMax, self.totalMax) = (max(perHostMax, 1), max(totalMax, 1))
    (self.strategy, self.constraints) = (strategy, constraints)
    (self.ramLeast, self.ramMost) = (ramLeast, ramMost)
  }

  var rackCount: Int { (hostCount + hostsPerRack - 1) / hostsPerRack }

  /// Links in order: hosts' cards outward, then inward, racks' uplinks outward, then inward.
  var capacities: [Double] {
    Array(repeating: hostRate, count: 2 * hostCount)
      + Array(repeating: rackRate, count: 2 * rackCount)
  }

  /// The links between a source and a destination host. Sources and destinations are in racks of their own.
  func path(from source: Int, to destination: Int) -> [Int] {
    [
      source, hostCount + destination, 2 * hostCount + source / hostsPerRack,
      2 * hostCount + rackCount + destination / hostsPerRack,
    ]
  }

  /// A guest drawn for one move.
  func guest(_ noise: inout Noise) -> GuestModel {
    var ram = max(ramLeast.bytes, 1 << 20)
    while ram < ramMost.bytes, noise.uniform() < 0.5 { ram *= 2 }
    let memory = GuestModel.Memory(
      ram: ByteCount(min(ram, max(ramMost.bytes, 1 << 20))),
      zeroPermille: UInt64(noise.uniform() * 600))
    let share = hostRate / Double(perHostMax)
    // Most guests write little: the square makes a busy one rare.
    let writes = share / 4096 * busiest * noise.uniform() * noise.uniform()
    let workingSet = ByteCount(UInt64(Double(memory.ram.bytes) * 0.3 * noise.uniform()))
    return .hotSet(memory, workingSet: workingSet, pagesPerSecond: writes)
  }
}
