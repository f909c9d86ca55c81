public import Agent
public import Base
import HostIO

/// An experiment out of a file: every guest, with every QEMU, moved by every method, some times over.
///
/// ```toml
/// name = "matrix-memory"
/// about = "one line for people"
/// link = "1Gbit"                            # of the migration network
/// qemu = ["newest", "installed"]            # or paths; each is used for both sides
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
  /// nil: 1 Gbit/s.
  public var link: ByteRate?
  /// `newest`: the lab's own; `installed`: the distribution's; or a path.
  public var qemus = ["newest"]
  public var methods: [LabMethod] = []
  public var guests: [MatrixGuest] = []
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
    if guests.isEmpty { return "there is no [[guest]]" }
    if qemus.isEmpty { return "qemu: there is none" }
    for (key, names) in [
      ("guest", guests.map(\.name)), ("methods", methods.map(\.name)), ("qemu", qemus),
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
    for method in methods {
      do { _ = try tuning(of: method) } catch { return "methods: \(error)" }
    }
    if !(1...10_000).contains(rounds) { return "rounds: must be in 1...10000" }
    return nil
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
      pageSource, returnAfter, forecast
  }

  static var keyNames: [String] {
    CodingKeys.allCases.map(\.rawValue) + MatrixGuest.CodingKeys.allCases.map(\.rawValue)
      + MatrixGuest.ClientKeys.allCases.map(\.rawValue)
      + MatrixGuest.DiskKeys.allCases.map(\.rawValue)
      + MethodTuning.CodingKeys.allCases.map(\.rawValue)
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    name = try values.decode(String.self, forKey: .name)
    about = try values.decodeIfPresent(String.self, forKey: .about) ?? about
    link = try values.parsed(.link, "a rate like 1Gbit") { ByteRate(parsing: $0) }
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
    tunings = try values.decodeIfPresent([String: MethodTuning].self, forKey: .tuning) ?? [:]
    let rate = link?.bytesPerSecond ?? HostPair.defaultLinkBytesPerSecond
    for index in guests.indices { guests[index].settle(linkBytesPerSecond: rate) }
  }
}
