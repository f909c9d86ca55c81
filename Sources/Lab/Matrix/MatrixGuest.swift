import Agent
import Base

/// A guest of a scenario, with its work and its clients.
public struct MatrixGuest: Sendable, Equatable {
  /// All of them are on one machine.
  static let countMax = 16

  /// Guests like this that are moved at once.
  public var count = 1
  public var name: String
  public var specification = GuestSpecification()
  /// What the clients of its server do.
  public var clients = StoreClient.Options()
  /// Its own disk is on storage of its host's alone, and moves with it.
  public var movesDisk = false
  /// And is behind a server, where Godwit moves it.
  public var servesDisk = false
  /// Rewritten memory per second as a multiple of the link's rate, where it was given so.
  private var timesLink: Double?

  /// Turns a multiple of the link's rate into a rate, once the link is known. Who has nothing to write is
  /// not asked to.
  mutating func settle(linkBytesPerSecond: UInt64) {
    if specification.workload.hotMiB == 0 { specification.workload.dirtyMiBPerSecond = 0 }
    guard let timesLink else { return }
    let rate = timesLink * Double(linkBytesPerSecond) / 1_048_576
    specification.workload.dirtyMiBPerSecond = UInt64(min(max(rate, 0), 1_048_576))
  }
}

extension MatrixGuest: Decodable {
  enum CodingKeys: String, CodingKey, CaseIterable {
    case name, memory, cpus, numa, machine, backend, accelerator
    case fill, compress, hot, dirty, pattern, threads, busy, change, verify, memcached, clients
    case rootDisk, redis, kernel, `class`, copies, disk, count
  }
  enum DiskKeys: String, CodingKey, CaseIterable {
    case size, block, operations, writePercent, compute, moves, served, scan
  }
  enum ClientKeys: String, CodingKey, CaseIterable {
    case connections, valueBytes, keys, pattern, setPercent, batch, pause
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    func choice<Value: RawRepresentable<String> & CaseIterable>(
      _ key: CodingKeys, _ target: inout Value
    ) throws {
      let all = Value.allCases.map(\.rawValue).joined(separator: ", ")
      if let value = try values.parsed(key, "one of \(all)", Value.init(rawValue:)) {
        target = value
      }
    }
    func count<Value: FixedWidthInteger>(_ key: CodingKeys, _ target: inout Value) throws {
      guard let value = try values.decodeIfPresent(Int.self, forKey: key) else { return }
      guard let fitting = Value(exactly: value) else {
        throw DecodingError.dataCorruptedError(
          forKey: key, in: values, debugDescription: "\(value) is out of range")
      }
      target = fitting
    }
    name = try values.decode(String.self, forKey: .name)
    specification.name = "lab"
    if let size = try values.size(.memory) { specification.memory = ByteCount(size) }
    try count(.cpus, &specification.cpus)
    try count(.numa, &specification.numaNodes)
    self.count = try values.number(.count, 1...Self.countMax) ?? 1
    try choice(.machine, &specification.machine)
    try choice(.backend, &specification.backend)
    try choice(.accelerator, &specification.accelerator)
    specification.workload.memoryMiB = try values.size(.fill).map { $0 >> 20 }
    try count(.compress, &specification.workload.compressPercent)
    if let hot = try values.size(.hot) { specification.workload.hotMiB = hot >> 20 }
    try choice(.pattern, &specification.workload.pattern)
    try count(.threads, &specification.workload.threads)
    specification.workload.isBusy = try values.decodeIfPresent(Bool.self, forKey: .busy) ?? false
    specification.workload.changeBytes = try values.decodeIfPresent(Int.self, forKey: .change)
      .map { UInt64(clamping: $0) }
    if let rate = try values.rateOrMax(.verify) {
      if rate.mebibytesPerSecond == 0 {
        throw DecodingError.dataCorruptedError(
          forKey: .verify, in: values,
          debugDescription:
            "a guest that never checks its memory shows nothing: give a rate of 1 MiB/s or more")
      }
      specification.workload.verifyMiBPerSecond = rate.mebibytesPerSecond
    }
    // Without a server there are no clients.
    specification.memcachedMiB = try values.size(.memcached).map { $0 >> 20 }
    specification.redisMiB = try values.size(.redis).map { $0 >> 20 }
    specification.rootDisk = try values.size(.rootDisk).map { ByteCount($0) }
    try decodeDirtyRate(values)
    try decodeClients(values)
    try decodeDiskLoad(values)
    if var kernel = try values.parsed(
      .kernel, "ep, is, cg, mg or ft",
      { GuestSpecification.Kernel.Name(rawValue: $0).map { GuestSpecification.Kernel($0) } })
    {
      try choice(.class, &kernel.size)
      try count(.copies, &kernel.copies)
      guard (1...256).contains(kernel.copies) else {
        throw DecodingError.dataCorruptedError(
          forKey: .copies, in: values, debugDescription: "\(kernel.copies) is not in 1...256")
      }
      specification.workload.kernel = kernel
    }
  }

  private mutating func decodeDirtyRate(_ values: KeyedDecodingContainer<CodingKeys>) throws {
    if let whole = try? values.decodeIfPresent(Int.self, forKey: .dirty) {
      timesLink = Double(whole)
    } else if let times = try? values.decodeIfPresent(Double.self, forKey: .dirty) {
      timesLink = times
    } else if let rate = try values.rateOrMax(.dirty) {
      specification.workload.dirtyMiBPerSecond = rate.mebibytesPerSecond
    }
    if let timesLink, !(timesLink >= 0 && timesLink <= 1000) {
      throw DecodingError.dataCorruptedError(
        forKey: .dirty, in: values, debugDescription: "\(timesLink) is not in 0...1000")
    }
  }

  private mutating func decodeDiskLoad(_ values: KeyedDecodingContainer<CodingKeys>) throws {
    guard values.contains(.disk) else { return }
    let table = try values.nestedContainer(keyedBy: DiskKeys.self, forKey: .disk)
    movesDisk = try table.decodeIfPresent(Bool.self, forKey: .moves) ?? false
    servesDisk = try table.decodeIfPresent(Bool.self, forKey: .served) ?? false
    guard movesDisk || !servesDisk else {
      throw DecodingError.dataCorruptedError(
        forKey: .served, in: table, debugDescription: "a disk is served only where it moves")
    }
    // A disk that moves may be one that the guest leaves alone.
    if movesDisk, Set(table.allKeys).isSubset(of: [.moves, .served]) { return }
    guard let size = try table.size(.size) else {
      throw DecodingError.dataCorruptedError(
        forKey: .size, in: table, debugDescription: "a disk load needs a size")
    }
    var load = GuestSpecification.DiskLoad(sizeMiB: size >> 20)
    if let block = try table.size(.block) { load.blockKiB = block >> 10 }
    load.operationsPerSecond = try table.number(.operations, 1...1_000_000).map { UInt64($0) }
    if let percent = try table.number(.writePercent, 0...100) {
      load.writePercent = UInt64(percent)
    }
    if let pages = try table.number(.compute, 0...1_000_000) { load.computePages = UInt64(pages) }
    load.isScanned = try table.decodeIfPresent(Bool.self, forKey: .scan) ?? false
    specification.workload.disk = load
  }

  private mutating func decodeClients(_ values: KeyedDecodingContainer<CodingKeys>) throws {
    guard values.contains(.clients) else { return }
    let table = try values.nestedContainer(keyedBy: ClientKeys.self, forKey: .clients)
    clients.connections = try table.number(.connections, 1...64) ?? clients.connections
    clients.valueBytes = try table.number(.valueBytes, 32...16_384) ?? clients.valueBytes
    if let keys = try table.number(.keys, 1...100_000_000) {
      clients.keysPerConnection = UInt64(max(keys / clients.connections, 1))
    }
    clients.setPercent = UInt64(try table.number(.setPercent, 0...100) ?? 50)
    clients.batch = try table.number(.batch, 1...64) ?? clients.batch
    if let pause = try table.duration(.pause) { clients.pauseMs = pause }
    clients.pattern =
      try table.parsed(.pattern, "uniform or zipf") { .init(rawValue: $0) } ?? clients.pattern
    clients.fillsFirst = true
  }
}
