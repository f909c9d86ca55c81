/// What `godwit trace` asks an agent for.
public struct TraceRequest: Codable, Sendable, Equatable {
  /// Longest trace: an hour; shortest epoch, and most epochs.
  public static let lengthMsMax: UInt64 = 3_600_000
  public static let epochMsMin: UInt64 = 50
  public static let epochsMax: UInt64 = 20_000

  /// A VM name that the agent knows, or `qmp:PATH`.
  public var vm: String
  /// How long to look, in milliseconds.
  public var lengthMs: UInt64
  /// Between two looks, in milliseconds.
  public var epochMs: UInt64

  public init(vm: String, lengthMs: UInt64 = 30_000, epochMs: UInt64 = 500) {
    (self.vm, self.lengthMs, self.epochMs) = (vm, lengthMs, epochMs)
  }

  public var epochCount: UInt64 { lengthMs / max(epochMs, 1) }

  /// What is wrong with the values, in one line; nil when nothing is.
  public var problem: String? {
    if vm.isEmpty { return "the name of the VM is empty" }
    if epochMs < Self.epochMsMin { return "an epoch lasts \(Self.epochMsMin) ms or more" }
    if lengthMs > Self.lengthMsMax { return "a trace lasts an hour at most" }
    if lengthMs < epochMs { return "a trace has at least one epoch of \(epochMs) ms" }
    if epochCount > Self.epochsMax {
      return "a trace has at most \(Self.epochsMax) epochs; make them longer"
    }
    return nil
  }
}

/// How far a trace is, after each epoch.
public struct TraceLook: Codable, Sendable, Equatable {
  public var epochs: UInt64
  /// Length of the last epoch, in milliseconds, and distinct pages dirtied in it.
  public var lastMs, dirtiedPages: UInt64
}

/// What a guest dirtied, by epochs.
public struct TraceRecord: Codable, Sendable, Equatable {
  public var vm: String
  public var source: GuestSample.Source
  /// Pages looked at, pages of RAM that they stand for, and pages that can't be seen from outside.
  public var sampledPages, ramPages, unseenPages: UInt64
  /// Zero at the end.
  public var zeroPages: UInt64
  public var vcpuCount: UInt64
  /// Each its length in milliseconds, then distinct pages dirtied with heat 1 to 8 (`HeatTrack.Epoch`).
  public var epochs: [[UInt64]]
}
