public import Base
import Compaction
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

  /// Pages that the destination could make of what it has, and that would cross the network as references.
  public struct Known: Codable, Sendable, Equatable {
    /// Held by its snapshot of the guest at the same place; the same as blocks of images that both hosts have; the same
    /// as pages that it keeps at other places, or of guests that share with this one.
    public var snapshot, disk, vault: Pages

    /// Those that have to be named.
    public var namedPages: UInt64 {
      let (sum, overflow) = disk.pages.addingReportingOverflow(vault.pages)
      return overflow ? .max : sum
    }
  }

  /// What pages take of this host's processors, as it was timed on those looked at.
  public struct Processors: Codable, Sendable, Equatable {
    /// Threads that a migration has for it.
    public var threads: UInt64
    /// What one of them takes to pack a page with LZ4, and to name one of `known`, in nanoseconds; nil: there was none.
    @OrNull public var packPageNs: UInt64?
    @OrNull public var namePageNs: UInt64?
  }

  /// What a way of packing pages comes to.
  public struct Packing: Codable, Sendable, Equatable {
    /// What they cost packed, in thousandths of their size.
    public var permille: UInt64
    /// What one thread takes for a page, in nanoseconds.
    public var pageNs: UInt64

    public init(permille: UInt64, pageNs: UInt64) {
      (self.permille, self.pageNs) = (permille, pageNs)
    }
  }

  /// Pages that the guest goes on changing, as they are packed.
  public struct Written: Codable, Sendable, Equatable {
    /// Pages that this was found out on: their contents 2 s apart, at least 8.
    public var sampledPages: UInt64
    /// Sent for the first time, packed with LZ4, and with zstd at level 1.
    public var lz4, zstd: Packing
    /// Sent again after what they held 2 s before, as the difference where that is smaller; nil: this host can't read the
    /// memory as shared, so that no differences are sent.
    @OrNull public var againLZ4: Packing?
    @OrNull public var againZstd: Packing?
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
  /// What pages that hold something, those of `known` left out, cost once they are packed with LZ4, in thousandths; nil:
  /// not known.
  @OrNull public var packedPermille: UInt64?
  /// The same packed with zstd at level 1; nil: not known.
  @OrNull public var zstd: Packing?
  /// Nil: the destination doesn't say, nobody asked, or the memory can't be read here.
  @OrNull public var known: Known?
  /// Nil: the memory can't be read here.
  @OrNull public var processors: Processors?
  /// Nil: too few pages changed, or the memory can't be read here.
  @OrNull public var written: Written?
  /// Pages dirtied in each of four windows side by side, in their order; nil: not known.
  @OrNull public var phases: [Point]?
  public var dirtyCurve: [Point]
}

extension GuestSample {
  /// Of the looks' time: windows of a second each.
  private static let phaseCount = 4

  /// - Parameters:
  ///   - known: which of its contents the destination could make; nil: not known.
  ///   - threads: that a migration has for packing and naming pages.
  init(
    _ result: GuestSampler.Result, of memory: SampledMemory, seed: UInt64, threads: Int,
    known: KnownPages? = nil
  ) {
    let history = result.history
    (source, self.seed) = (memory.source, seed)
    (sampledPages, unseenPages) = (history.sampledPages, memory.unseenPages)
    ramPages = memory.ramPages + memory.unseenPages
    (durationMs, cpuMs) = (result.durationMs, result.cpuMs)
    zeroPages = Pages(history.zeroPages)
    let isLeftOut = known.map { $0.ways.map { $0 != nil } } ?? []
    let packing = result.contents.packing(without: isLeftOut)
    packedPermille = packing?.permille
    zstd = result.contents.packing(.zstd1, without: isLeftOut).map(Packing.init)
    processors = Processors(
      threads: UInt64(max(threads, 1)), packPageNs: packing?.pageNs, namePageNs: known?.nameNs)
    self.known = known.map { Known($0) }
    written = result.rewritten.map { Written($0, againIsDifferent: memory.source == .shared) }
    phases = history.windows(Self.phaseCount).map(Point.init)
    dirtyCurve = history.curve.points.map(Point.init)
  }
}

extension GuestSample.Packing {
  init(_ packing: SampledContents.Packing) {
    self.init(permille: packing.permille, pageNs: packing.pageNs)
  }
}

extension GuestSample.Written {
  /// - Parameter againIsDifferent: a page may be sent as the difference to the version before.
  init(_ pages: RewrittenPages, againIsDifferent: Bool) {
    sampledPages = UInt64(pages.changedCount)
    lz4 = GuestSample.Packing(pages.packing(.lz4))
    zstd = GuestSample.Packing(pages.packing(.zstd1))
    againLZ4 = againIsDifferent ? GuestSample.Packing(pages.packing(.lz4, again: true)) : nil
    againZstd = againIsDifferent ? GuestSample.Packing(pages.packing(.zstd1, again: true)) : nil
  }
}
