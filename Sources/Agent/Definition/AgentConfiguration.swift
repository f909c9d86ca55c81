public import Base
import HostIO
import TOMLKit

/// What the operator lets the agent of this host do (`/etc/godwit/agent.toml`). Every key is optional.
public struct AgentConfiguration: Sendable, Equatable {
  public static let defaultPath = "/etc/godwit/agent.toml"
  /// A configuration or definition file beyond this many bytes is refused.
  public static let fileSizeMax = 1 << 20

  /// Replaces a leading part of each path in a source's command line.
  public struct PathRewrite: Sendable, Equatable, Decodable {
    /// Both absolute. `/old` covers `/old` and `/old/…`, not `/older`.
    public var from, to: String
    public init(from: String, to: String) { (self.from, self.to) = (from, to) }
  }

  /// Journal, history, logs. Survives a reboot.
  public var stateDirectory = "/var/lib/godwit"
  /// Sockets. Its path must be short: a unix socket's path has 107 bytes at most.
  public var runtimeDirectory = "/run/godwit"
  /// Where other agents connect, `address:port`.
  public var listen = "0.0.0.0:4750"
  /// The only programs the agent ever starts as a VM; absolute paths, compared as written.
  public var allowedPrograms = ["/usr/bin/qemu-system-x86_64"]
  /// Folders and files that a VM's arguments may name. For a source's command line nothing else is
  /// allowed. For a definition, which the operator wrote, the rule applies once it is set.
  public var allowedPaths: [String]?
  /// Start VMs from the command line that the source sends, when there is no definition.
  public var acceptSourceCommandLine = false
  public var pathRewrites: [PathRewrite] = []
  /// Holds `NAME.toml`, one VM each.
  public var definitionsDirectory = "/etc/godwit/vms"
  /// Most connections a peer may open for one migration, `1...64`.
  public var laneCountMax = 16
  /// Memory for page data of one migration, in bytes.
  public var memoryLimitBytes: UInt64 = 256 << 20
  /// Threads that make one migration's pages smaller, `1...64`; nil: half of the processors.
  public var compactionThreads: Int?
  /// Milliseconds that a started QEMU has until its monitor answers.
  public var startTimeoutMs: UInt64 = 30_000
  /// Migrations at once out of this host and into it, `1...256` each; more are refused.
  public var outgoingMax = 16
  public var incomingMax = 16
  /// Limit of all outgoing migrations together; nil: none.
  public var bandwidth: ByteRate?
  /// Where metrics and health can be read over HTTP, `address:port`; nil: nowhere.
  public var metrics: String?
  /// Least severe messages to log: `trace`, `debug`, `info`, `notice`, `warning`, `error`, `critical`.
  public var logLevel = "info"
  /// Most bytes of guests' memory that are kept on this host's disk, for their return; 0: nothing is kept.
  public var vaultQuotaBytes: UInt64 = 16 << 30
  /// File with the key that what is kept is sealed with; nil: it is not.
  public var vaultKeyFile: String?
  /// How long running migrations may go on when the agent is told to end, in milliseconds.
  public var drainTimeoutMs: UInt64 = 30_000

  /// Certificates, keys, or plain TCP.
  public var tls = SecuritySettings()
  /// Who may bring what; empty: every peer of the authority, any VM.
  public var allow: [AllowRule] = []
  /// Images beside the guests' own whose blocks their pages may refer to; empty: none.
  public var sharedImages: [SharedImages] = []
  /// Guests that may use each other's kept memory; empty: each its own alone.
  public var share: [ShareRule] = []

  public init() {}

  /// Reads `path`; a missing file at the default path means all defaults.
  public static func load(path: String = defaultPath) throws -> AgentConfiguration {
    guard let text = try ConfigurationFile.text(path) else {
      guard path == defaultPath else {
        throw ConfigurationError(path: path, "the file does not exist or cannot be read")
      }
      return AgentConfiguration()
    }
    return try parse(text, path: path)
  }

  /// Reads TOML. Throws `ConfigurationError` where it is none, has a key that isn't known, or a
  /// value that can't be used.
  ///
  /// - Parameter path: where the text is from, for messages.
  public static func parse(_ text: String, path: String) throws -> AgentConfiguration {
    let configuration = try ConfigurationFile.decode(
      AgentConfiguration.self, text, path: path, known: keyNames)
    if let problem = configuration.problem { throw ConfigurationError(path: path, problem) }
    return configuration
  }

  /// What makes the configuration unusable; nil when it is sound.
  var problem: String? {
    let named: [(String, [String])] = [
      ("stateDirectory", [stateDirectory]), ("runtimeDirectory", [runtimeDirectory]),
      ("definitionsDirectory", [definitionsDirectory]), ("allowedPrograms", allowedPrograms),
      ("allowedPaths", allowedPaths ?? []),
      ("pathRewrites", pathRewrites.flatMap { [$0.from, $0.to] }),
      ("sharedImages", sharedImages.flatMap(\.images)),
    ]
    for (key, paths) in named {
      for path in paths where !PathRule.isClean(path) {
        return "\(key): \"\(path)\" must be an absolute path without \"..\""
      }
    }
    if share.contains(where: { $0.group.isEmpty || $0.vms.isEmpty }) {
      return "share: a group needs a name and vms"
    }
    if !(1...64).contains(laneCountMax) { return "laneCountMax: \(laneCountMax) is not in 1...64" }
    if let compactionThreads, !(1...64).contains(compactionThreads) {
      return "compactionThreads: \(compactionThreads) is not in 1...64"
    }
    if memoryLimitBytes < 16 << 20 { return "memoryLimit: at least 16MiB are needed" }
    if !(100...600_000).contains(startTimeoutMs) { return "startTimeout: must be in 100ms...10m" }
    if let problem = limitsProblem { return problem }
    if runtimeDirectory.utf8.count > 60 {
      return "runtimeDirectory: \"\(runtimeDirectory)\" is too long for the sockets in it; "
        + "60 bytes at most"
    }
    return tls.problem
  }
}

extension AgentConfiguration: Decodable {
  enum CodingKeys: String, CodingKey, CaseIterable {
    case stateDirectory, runtimeDirectory, listen, allowedPrograms, allowedPaths
    case acceptSourceCommandLine, pathRewrites, definitionsDirectory, laneCountMax
    case memoryLimit, startTimeout, compactionThreads
    case outgoingMax, incomingMax, bandwidth, metrics, drainTimeout, logLevel, tls, allow
    case vaultQuota, vaultKeyFile, sharedImages, share
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    func set<Value: Decodable>(_ key: CodingKeys, _ target: inout Value) throws {
      if let value = try values.decodeIfPresent(Value.self, forKey: key) { target = value }
    }
    try set(.stateDirectory, &stateDirectory)
    try set(.runtimeDirectory, &runtimeDirectory)
    try set(.listen, &listen)
    try set(.allowedPrograms, &allowedPrograms)
    allowedPaths = try values.decodeIfPresent([String].self, forKey: .allowedPaths)
    try set(.acceptSourceCommandLine, &acceptSourceCommandLine)
    try set(.pathRewrites, &pathRewrites)
    try set(.definitionsDirectory, &definitionsDirectory)
    try set(.laneCountMax, &laneCountMax)
    compactionThreads = try values.decodeIfPresent(Int.self, forKey: .compactionThreads)
    try set(.tls, &tls)
    try set(.allow, &allow)
    try set(.sharedImages, &sharedImages)
    try set(.share, &share)
    if let size = try values.size(.memoryLimit) { memoryLimitBytes = size }
    if let duration = try values.duration(.startTimeout) { startTimeoutMs = duration }
    try decodeLimits(values)
  }
}
