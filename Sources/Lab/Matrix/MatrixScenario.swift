public import Agent
public import Base
import HostIO

/// An experiment out of a file: every guest, with every QEMU, moved by every method, some times over.
///
/// ```toml
/// name = "matrix-memory"
/// about = "one line for people"
/// link = "1Gbit"                            # of the migration network
/// qemu = ["newest", "installed -> newest"]  # or paths; for both sides, or for each its own
/// methods = ["qemu-precopy", "godwit-precopy"]
///
/// [[guest]]
/// name = "dirty-1.5x"
/// memory = "768MiB"
/// dirty = 1.5                               # times the link's rate; or "100MiB/s", "max"
/// ```
public struct MatrixScenario: Sendable, Equatable {
  /// A scenario larger than this is refused, in guests, methods and QEMUs each.
  static let listCountMax = 64
  public static let folder = "share/scenarios"

  public var name: String
  public var about = ""
  /// Whether guests are moved, or disks alone.
  public enum Kind: String, Sendable, CaseIterable { case guest, disk }
  public var kind = Kind.guest
  /// nil: 1 Gbit/s.
  public var link: ByteRate?
  /// In the file `[link]` with `rate`, `latency` (each way), and `competing`: traffic of others on it.
  public var linkLatencyMs: UInt64 = 0
  public var competing: ByteRate?
  static let latencyMaxMs: UInt64 = 1000
  /// `newest`: the lab's own; `installed`: the distribution's; or a path. `A -> B`: A at the source, B at the destination.
  public var qemus = ["newest"]
  public var methods: [LabMethod] = []
  public var guests: [MatrixGuest] = []
  public var disks: [MatrixDisk] = []
  public var tunings: [String: MethodTuning] = [:]
  /// Rounds: each is a fresh random order of everything.
  public var rounds = 3
  public var seed: UInt64 = 1
  public var timeoutMs: UInt64 = 60_000
  public var downtimeLimitMs: UInt64 = 300
  public var warmUpMs: UInt64 = 3000
  /// See `LabOptions.returnAfterMs`; in the file `returnAfter = "10m"`.
  public var returnAfterMs: UInt64?
  public var pageSource = MigrationRequest.PageSourceChoice.auto
  /// Every migration of Godwit's is forecast before it begins.
  public var isForecast = false

  init(name: String) { self.name = name }

  /// Names of what is moved.
  public var subjects: [String] { kind == .disk ? disks.map(\.name) : guests.map(\.name) }

  /// Reads a scenario: a path that ends in `.toml`, or the name of one that comes with the program.
  public static func load(_ name: String) throws -> MatrixScenario {
    let path = name.hasSuffix(".toml") ? name : "\(try ShippedFolder.path(folder))/\(name).toml"
    guard let text = try ConfigurationFile.text(path) else {
      throw ConfigurationError(path: path, "the file does not exist or cannot be read")
    }
    return try parse(text, path: path)
  }

  /// All that come with the program, by name.
  public static func shipped() -> [MatrixScenario] {
    guard let folder = try? ShippedFolder.path(folder) else { return [] }
    return ProcFile.names(in: folder).filter { $0.hasSuffix(".toml") }.sorted().compactMap {
      try? load("\(folder)/\($0)")
    }
  }

  static func parse(_ text: String, path: String) throws -> MatrixScenario {
    let scenario = try ConfigurationFile.decode(
      MatrixScenario.self, text, path: path, known: keyNames)
    if let problem = scenario.problem { throw ConfigurationError(path: path, problem) }
    return scenario
  }

  private var problem: String? {
    if methods.isEmpty { return "methods: there is none" }
    if subjects.isEmpty { return "there is no [[\(kind.rawValue)]]" }
    if qemus.isEmpty { return "qemu: there is none" }
    if let problem = kindProblem { return problem }
    for (key, names) in [
      (kind.rawValue, subjects), ("methods", methods.map(\.name)), ("qemu", qemus),
    ] {
      if names.count > Self.listCountMax { return "\(key): more than \(Self.listCountMax)" }
      if Set(names).count < names.count { return "\(key): a name is there twice" }
    }
    for guest in guests where guest.name.isEmpty || guest.name.contains("/") {
      return "guest: \"\(guest.name)\" is no name"
    }
    for guest in guests where guest.count > 1 {
      if guest.specification.server != nil || returnAfterMs != nil {
        return "count: guests that return, or have clients, are moved alone"
      }
    }
    for name in qemus {
      guard let choice = QEMUChoice(name) else { return "qemu: \"\(name)\" names no QEMU" }
      if returnAfterMs != nil, !choice.isSame {
        return "qemu: a guest that returns needs the same one at both sides"
      }
    }
    if returnAfterMs != nil, guests.contains(where: \.movesDisk) {
      return "moves: a guest that returns shares its disk with both hosts"
    }
    for method in methods {
      do {
        let way = try tuning(of: method).diskMethod
        if way != nil, let guest = guests.first(where: { !$0.servesDisk }) {
          return "diskMethod: the disk of \(guest.name) is behind no server"
        }
      } catch { return "methods: \(error)" }
    }
    if !(1...10_000).contains(rounds) { return "rounds: must be in 1...10000" }
    return nil
  }

  /// What does not go with `kind`.
  private var kindProblem: String? {
    if let wrong = methods.first(where: { $0.isOfDisks != (kind == .disk) }) {
      return "methods: \(wrong.name) does not move a \(kind.rawValue) alone"
    }
    guard kind == .disk else {
      return disks.isEmpty ? nil : "[[disk]] needs kind = \"disk\"; a guest's own is disk = { }"
    }
    if !guests.isEmpty || returnAfterMs != nil || isForecast || qemus.count > 1 {
      return "kind: a disk alone has no guest, return, forecast, or several QEMUs"
    }
    return disks.lazy.compactMap(\.problem).first
  }

  /// How a method is tuned; throws when the file has no such tuning, or it does not fit.
  public func tuning(of method: LabMethod) throws(LabError) -> MethodTuning {
    guard let name = method.tuning else { return MethodTuning() }
    guard let tuning = tunings[name] else { throw LabError("there is no [tuning.\(name)]") }
    if let problem = tuning.problem(with: method) { throw LabError("\(method.name): \(problem)") }
    return tuning
  }
}

extension MatrixScenario: Decodable {
  enum CodingKeys: String, CodingKey, CaseIterable {
    case tuning
    case name, about, link, qemu, methods, guest, rounds, seed, timeout, downtime, warmUp,
      pageSource, returnAfter, forecast, kind, disk
  }
  enum LinkKeys: String, CodingKey, CaseIterable { case rate, latency, competing }

  static var keyNames: [String] {
    CodingKeys.allCases.map(\.rawValue) + MatrixGuest.CodingKeys.allCases.map(\.rawValue)
      + MatrixGuest.ClientKeys.allCases.map(\.rawValue)
      + MatrixGuest.DiskKeys.allCases.map(\.rawValue)
      + MethodTuning.CodingKeys.allCases.map(\.rawValue)
      + MatrixDisk.CodingKeys.allCases.map(\.rawValue)
      + MatrixDisk.LoadKeys.allCases.map(\.rawValue) + LinkKeys.allCases.map(\.rawValue)
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    name = try values.decode(String.self, forKey: .name)
    about = try values.decodeIfPresent(String.self, forKey: .about) ?? about
    kind = try values.parsed(.kind, "guest or disk") { Kind(rawValue: $0) } ?? kind
    try decodeLink(values)
    qemus = try values.decodeIfPresent([String].self, forKey: .qemu) ?? qemus
    methods = try values.decode([String].self, forKey: .methods).map { name in
      guard let method = LabMethod(name: name) else {
        throw DecodingError.dataCorruptedError(
          forKey: .methods, in: values,
          debugDescription: "there is no \"\(name)\"; there are \(LabMethod.names)")
      }
      return method
    }
    rounds = try values.decodeIfPresent(Int.self, forKey: .rounds) ?? rounds
    seed = UInt64(clamping: try values.decodeIfPresent(Int.self, forKey: .seed) ?? 1)
    timeoutMs = try values.duration(.timeout) ?? timeoutMs
    downtimeLimitMs = try values.duration(.downtime) ?? downtimeLimitMs
    warmUpMs = try values.duration(.warmUp) ?? warmUpMs
    returnAfterMs = try values.duration(.returnAfter)
    pageSource =
      try values.parsed(.pageSource, "auto, inline or shared") {
        MigrationRequest.PageSourceChoice(rawValue: $0)
      } ?? pageSource
    isForecast = try values.decodeIfPresent(Bool.self, forKey: .forecast) ?? false
    guests = try values.decodeIfPresent([MatrixGuest].self, forKey: .guest) ?? []
    disks = try values.decodeIfPresent([MatrixDisk].self, forKey: .disk) ?? []
    tunings = try values.decodeIfPresent([String: MethodTuning].self, forKey: .tuning) ?? [:]
    let rate = link?.bytesPerSecond ?? HostPair.defaultLinkBytesPerSecond
    for index in guests.indices { guests[index].settle(linkBytesPerSecond: rate) }
  }

  /// A rate alone, or a table.
  private mutating func decodeLink(_ values: KeyedDecodingContainer<CodingKeys>) throws {
    let what = "a rate like 1Gbit"
    guard values.contains(.link), (try? values.decode(String.self, forKey: .link)) == nil else {
      link = try values.parsed(.link, what) { ByteRate(parsing: $0) }
      return
    }
    let table = try values.nestedContainer(keyedBy: LinkKeys.self, forKey: .link)
    link = try table.parsed(.rate, what) { ByteRate(parsing: $0) }
    competing = try table.parsed(.competing, what) { ByteRate(parsing: $0) }
    linkLatencyMs =
      try table.parsed(.latency, "a duration up to 1s") { text in
        Milliseconds.parse(text).flatMap { $0 <= Self.latencyMaxMs ? $0 : nil }
      } ?? 0
  }
}
