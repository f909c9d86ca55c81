public import Base
import Strategy

/// What was found out about a running guest from outside.
public struct GuestSample: Codable, Sendable, Equatable {
  /// How pages were looked at.
  public enum Source: String, Codable, Sendable {
    /// In memory that QEMU shares.
    case shared
    /// In QEMU's own memory.
    case process
    /// By QEMU itself (`calc-dirty-rate`), where the agent can't read the memory.
    case qemu
  }

  /// A number of pages; nine tenths of such samples hold the true one in between.
  public struct Pages: Codable, Sendable, Equatable {
    public var pages, lowPages, highPages: UInt64

    init(_ estimate: PageEstimate) {
      (pages, lowPages, highPages) = (estimate.pages, estimate.lowPages, estimate.highPages)
    }
  }

  /// Distinct pages dirtied within a window.
  public struct Point: Codable, Sendable, Equatable {
    public var windowMs: UInt64
    public var dirtied: Pages

    init(_ point: DirtyCurve.Point) {
      (windowMs, dirtied) = (point.windowMs, Pages(point.pages))
    }
  }

  public var source: Source
  /// Pages looked at, pages of RAM, and of these pages that nobody can look at.
  public var sampledPages, ramPages, unseenPages: UInt64
  /// Draws the same pages again; nil where QEMU drew them.
  @OrNull public var seed: UInt64?
  /// How long it took, in milliseconds.
  public var durationMs: UInt64
  /// Processor time of the agent's, in milliseconds; nil where QEMU's was used.
  @OrNull public var cpuMs: UInt64?
  /// Pages of zeros; nil: not known.
  @OrNull public var zeroPages: Pages?
  /// What pages that hold something cost once they are packed with LZ4, in thousandths; nil: not known.
  @OrNull public var packedPermille: UInt64?
  public var dirtyCurve: [Point]
}

extension GuestSample {
  init(_ result: GuestSampler.Result, of memory: SampledMemory, seed: UInt64) {
    let history = result.history
    (source, self.seed) = (memory.source, seed)
    (sampledPages, unseenPages) = (history.sampledPages, memory.unseenPages)
    ramPages = memory.ramPages + memory.unseenPages
    (durationMs, cpuMs) = (result.durationMs, result.cpuMs)
    zeroPages = Pages(history.zeroPages)
    packedPermille = result.packedPermille
    dirtyCurve = history.curve.points.map(Point.init)
  }
}
