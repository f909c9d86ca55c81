import QMP

/// What both QEMUs are told before a rival's migration. Pure: facts in, settings out.
///
/// Each rival is set as well as its documentation and this link allow; QEMU's defaults (128 MiB/s, a
/// cache of 64 MiB) would be a straw man.
struct RivalSettings: Equatable {
  /// What the settings depend on.
  struct Facts {
    var downtimeLimitMs: UInt64
    /// Bytes per second; 0: the link is the limit.
    var bandwidthCap: UInt64
    /// Guest RAM, and the part of it that is written again and again, in bytes.
    var memoryBytes, workingSetBytes: UInt64
    /// Of the host.
    var processors: Int
    var source, destination: MigrationCapabilities
  }

  /// Set on both sides alike.
  private(set) var capabilities: [String: Bool] = [:]
  /// Of the source alone.
  private(set) var sourceCapabilities: [String: Bool] = [:]
  private(set) var parameters: [String: JSONValue] = [:]
  private(set) var sourceParameters: [String: JSONValue] = [:]

  /// Throws when a QEMU lacks what the rival needs.
  init(_ rival: Rival, _ facts: Facts) throws(LabError) {
    sourceParameters = [
      "downtime-limit": JSONValue(facts.downtimeLimitMs),
      "max-bandwidth": JSONValue(facts.bandwidthCap),
    ]
    // With it the source is done when the destination has loaded everything, not when the last byte
    // is in a socket's buffer: both its total time and its downtime are the truth.
    capabilities["return-path"] = true
    switch rival {
    case .precopy: break
    case .autoconverge:
      // Initial throttle 20 %, 10 % more each time, up to 99 %: QEMU's own choice.
      sourceCapabilities["auto-converge"] = true
    case .xbzrle:
      capabilities["xbzrle"] = true
      sourceParameters["xbzrle-cache-size"] = JSONValue(Self.cacheBytes(facts))
    case .multifdZstd:
      capabilities["multifd"] = true
      parameters["multifd-channels"] = JSONValue(UInt64(min(max(facts.processors, 2), 8)))
      parameters["multifd-compression"] = "zstd"
      // The fastest one: at any other level the processor is slower than the link.
      parameters["multifd-zstd-level"] = JSONValue(1 as UInt64)
    case .postcopy:
      capabilities["postcopy-ram"] = true
      sourceParameters["max-postcopy-bandwidth"] = JSONValue(facts.bandwidthCap)
      // A channel of its own for pages that the guest waits for (7.1 and later).
      let preempt = "postcopy-preempt"
      if facts.source.exists(preempt), facts.destination.exists(preempt) {
        capabilities[preempt] = true
      }
    }
    for name in capabilities.keys.sorted() + sourceCapabilities.keys.sorted() {
      let isShared = capabilities[name] != nil
      guard facts.source.exists(name), !isShared || facts.destination.exists(name) else {
        throw LabError("\(rival.name): this QEMU has no \(name)")
      }
    }
  }

  /// Somebody knows better: their settings win, on both sides.
  mutating func apply(_ tuning: MethodTuning) {
    for (name, state) in tuning.capabilities {
      capabilities[name] = state
      sourceCapabilities[name] = nil
    }
    for (name, value) in tuning.parameters {
      parameters[name] = value
      sourceParameters[name] = nil
    }
  }

  /// Size of the XBZRLE cache: it holds pages by address modulo its size, and a guest's pages lie
  /// scattered, so that twice the working set is needed to hold most of it. QEMU wants a power of two;
  /// more than RAM is of no use.
  static func cacheBytes(_ facts: Facts) -> UInt64 {
    let smallest: UInt64 = 64 << 20
    var size = smallest
    while size < 2 * min(facts.workingSetBytes, 1 << 48), size < facts.memoryBytes { size *= 2 }
    return size
  }
}
