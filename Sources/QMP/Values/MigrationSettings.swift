/// `query-migrate-capabilities`: every capability that this QEMU has, by name.
public struct MigrationCapabilities: Sendable, Hashable {
  public let states: [String: Bool]

  public init(_ states: [String: Bool]) { self.states = states }
  /// Whether a capability is on; false where this QEMU doesn't have it, which `exists` tells apart.
  public subscript(name: String) -> Bool { states[name] ?? false }
  public func exists(_ name: String) -> Bool { states[name] != nil }
  /// Names of those that are on, sorted.
  public var enabled: [String] { states.filter(\.value).keys.sorted() }

  /// What must be set to come from `now` back to this, and nothing else.
  public func changes(from now: Self) -> [String: Bool] {
    states.filter { now.states[$0.key] != nil && now.states[$0.key] != $0.value }
  }
}

/// `query-migrate-parameters`: every parameter that this QEMU has, exactly as it was read.
public struct MigrationParameters: Sendable, Hashable {
  public let values: [String: JSONValue]

  public init(_ values: [String: JSONValue]) { self.values = values }
  /// nil where this QEMU doesn't have the parameter, or has left it unset.
  public subscript(name: String) -> JSONValue? { values[name] }
  public func exists(_ name: String) -> Bool { values[name] != nil }

  /// Bytes per second; 0: no limit.
  public var maxBandwidth: UInt64? { values["max-bandwidth"]?.uint64 }
  public var downtimeLimitMs: UInt64? { values["downtime-limit"]?.uint64 }
  /// Name of the TLS credentials object; empty: no TLS.
  public var tlsCreds: String { values["tls-creds"]?.string ?? "" }

  /// What must be set to come from `now` back to this, and nothing else: a few parameters can be
  /// read but not written back, and those do not change behind our back.
  public func changes(from now: Self) -> [String: JSONValue] {
    values.filter { now.values[$0.key] != nil && now.values[$0.key] != $0.value }
  }
}
