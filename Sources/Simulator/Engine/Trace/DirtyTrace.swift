/// What a guest dirtied over time, recorded by epochs: small enough to keep, and what the simulator replays.
public struct DirtyTrace: Sendable, Equatable {
  /// Most epochs that a trace may hold, and most pages of RAM: 2^36 are 256 TiB.
  public static let epochsMax = 100_000
  public static let pagesMax: UInt64 = 1 << 36
  /// Longest epoch, in milliseconds: a day.
  public static let epochMsMax: UInt64 = 86_400_000

  /// What was found dirtied between two looks.
  public struct Epoch: Sendable, Equatable {
    /// 1 and more.
    public var lengthMs: UInt64
    /// Distinct pages dirtied, by the number of the last 8 epochs, this one included, in which each was:
    /// 8 counts, for heat 1 to 8.
    public var dirtiedByHeat: [UInt64]

    /// - Parameter dirtiedByHeat: 8 counts; a reader refuses any other number.
    public init(lengthMs: UInt64, dirtiedByHeat: [UInt64]) {
      (self.lengthMs, self.dirtiedByHeat) = (lengthMs, dirtiedByHeat)
    }

    public var dirtiedPages: UInt64 { dirtiedByHeat.reduce(0, &+) }
  }

  /// Pages of RAM, and of these zero ones.
  public var ramPages, zeroPages: UInt64
  /// What a page that isn't zero costs on the wire, in bytes, on average; `1...8192`.
  public var pageBytes: UInt64
  public var vcpuCount: UInt64
  public var epochs: [Epoch]

  public init(
    ramPages: UInt64, zeroPages: UInt64 = 0, pageBytes: UInt64 = 4120, vcpuCount: UInt64 = 1,
    epochs: [Epoch] = []
  ) {
    (self.ramPages, self.zeroPages, self.pageBytes) = (ramPages, zeroPages, pageBytes)
    (self.vcpuCount, self.epochs) = (vcpuCount, epochs)
  }
}

/// Why a trace was refused.
public struct TraceRefusal: Error, Sendable, Equatable, CustomStringConvertible {
  /// From 1.
  public let line: Int
  public let reason: String

  public var description: String { "line \(line): \(reason)" }
}
