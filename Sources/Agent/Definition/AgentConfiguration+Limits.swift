import Base
import HostIO
import Logging

// Limits and operation: what is decoded and checked beside what the agent may start.
extension AgentConfiguration {
  /// Every key, the ones of tables included.
  static var keyNames: [String] {
    CodingKeys.allCases.map(\.stringValue) + ["from", "to", "peer", "vms", "images", "group"]
      + SecuritySettings.CodingKeys.allCases.map(\.stringValue)
  }

  mutating func decodeLimits(_ values: KeyedDecodingContainer<CodingKeys>) throws {
    outgoingMax = try values.decodeIfPresent(Int.self, forKey: .outgoingMax) ?? outgoingMax
    incomingMax = try values.decodeIfPresent(Int.self, forKey: .incomingMax) ?? incomingMax
    bandwidth = try values.parsed(.bandwidth, "a rate like 1Gbit or 100MiB/s") {
      ByteRate(parsing: $0)
    }
    metrics = try values.decodeIfPresent(String.self, forKey: .metrics)
    logLevel = try values.decodeIfPresent(String.self, forKey: .logLevel) ?? logLevel
    if let size = try values.size(.vaultQuota) { vaultQuotaBytes = size }
    vaultKeyFile = try values.decodeIfPresent(String.self, forKey: .vaultKeyFile)
    if let duration = try values.duration(.drainTimeout) { drainTimeoutMs = duration }
  }

  /// What is wrong with these keys, in one line; nil when nothing is.
  var limitsProblem: String? {
    for (key, value) in [("outgoingMax", outgoingMax), ("incomingMax", incomingMax)]
    where !(1...256).contains(value) {
      return "\(key): \(value) is not in 1...256"
    }
    if let bandwidth, bandwidth.bytesPerSecond < 125_000 {
      return "bandwidth: at least 1Mbit is needed; leave it out for no limit"
    }
    let levels = Logger.Level.allCases.map(\.rawValue)
    if !levels.contains(logLevel) {
      return "logLevel: \"\(logLevel)\" is none of \(levels.joined(separator: ", "))"
    }
    if let vaultKeyFile, !vaultKeyFile.hasPrefix("/") {
      return "vaultKeyFile: \"\(vaultKeyFile)\" is no absolute path"
    }
    if drainTimeoutMs > 3_600_000 { return "drainTimeout: must be at most 1h" }
    for (key, address) in [("listen", listen)] + (metrics.map { [("metrics", $0)] } ?? [])
    where TCPSocket.split(address, defaultPort: TCPSocket.defaultPort) == nil {
      return "\(key): \"\(address)\" is not ADDRESS:PORT"
    }
    return nil
  }

  /// `new` as far as a running agent can take it over, and the keys that need a new start.
  func reloaded(_ new: AgentConfiguration) -> (AgentConfiguration, restart: [String]) {
    var result = new
    var restart: [String] = []
    func keep<Value: Equatable>(
      _ key: CodingKeys, _ part: WritableKeyPath<AgentConfiguration, Value>
    ) {
      if result[keyPath: part] != self[keyPath: part] { restart.append(key.stringValue) }
      result[keyPath: part] = self[keyPath: part]
    }
    keep(.listen, \.listen)
    keep(.stateDirectory, \.stateDirectory)
    keep(.runtimeDirectory, \.runtimeDirectory)
    keep(.metrics, \.metrics)
    keep(.logLevel, \.logLevel)
    return (result, restart)
  }
}

extension KeyedDecodingContainer where K == AgentConfiguration.CodingKeys {
  func size(_ key: K) throws -> UInt64? {
    try parsed(key, "a size like 256MiB") { ByteCount(parsing: $0)?.bytes }
  }
}
