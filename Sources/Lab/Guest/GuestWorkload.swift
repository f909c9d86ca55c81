extension GuestSpecification {
  /// Arguments of the guest's workload; each field is one of its `key=value` arguments.
  public struct Workload: Sendable, Equatable {
    /// Which of the hot pages is written next.
    public enum Pattern: String, Sendable, CaseIterable {
      case uniform, zipf, sequential
      /// Four of five writes go to a fifth of the pages.
      case hotspot
    }

    /// How often the guest says what it has done.
    static let heartbeatMs: UInt64 = 10

    /// Memory filled and checked; nil: what the guest has room for.
    public var memoryMiB: UInt64?
    /// Share of each page that compresses well, in percent.
    public var compressPercent: UInt64 = 50
    /// Memory written again and again.
    public var hotMiB: UInt64 = 64
    /// nil: as fast as the virtual processor can.
    public var dirtyMiBPerSecond: UInt64? = 20
    /// It works between writes rather than sleep: its rate is that of its processor.
    public var isBusy = false
    public var pattern = Pattern.uniform
    public var threads: UInt64 = 1
    /// Bytes of a page that one write changes; nil: all of it.
    public var changeBytes: UInt64?
    /// Checked per second; nil: as fast as the virtual processor can.
    public var verifyMiBPerSecond: UInt64? = 150
    /// Runs beside that; what it gets done is the guest's work then.
    public var kernel: Kernel?
    /// Runs beside that; what it gets done is part of the guest's work then.
    public var disk: DiskLoad?

    public init() {}

    func arguments(memoryMiB room: UInt64) -> [String] {
      [
        "mem=\(memoryMiB ?? room)", "compress=\(compressPercent)", "hot=\(hotMiB)",
        "rate=\(dirtyMiBPerSecond.map { "\($0)" } ?? "max")", "pattern=\(pattern.rawValue)",
        "threads=\(threads)", "verify=\(verifyMiBPerSecond.map { "\($0)" } ?? "max")",
        "beat=\(Self.heartbeatMs)",
      ] + (isBusy ? ["busy=1"] : []) + (changeBytes.map { ["change=\($0)"] } ?? [])
        + (kernel?.arguments ?? [])
        + (disk?.arguments ?? [])
    }
  }

  /// A kernel of the NAS Parallel Benchmarks, run again and again; each result is held against the published one.
  public struct Kernel: Sendable, Equatable {
    /// Gaussian pairs, integer sort, conjugate gradients, multigrid, Fourier transform.
    public enum Name: String, Sendable, CaseIterable { case ep, `is`, cg, mg, ft }
    /// NPB's letters, small to large.
    public enum Size: String, Sendable, CaseIterable {
      case small = "S"
      case workstation = "W"
      case a = "A"
    }

    public var name: Name
    public var size = Size.small
    /// Each with memory and a thread of its own.
    public var copies: UInt64 = 1

    public init(_ name: Name) { self.name = name }

    var arguments: [String] {
      ["kernel=\(name.rawValue)", "class=\(size.rawValue)", "copies=\(copies)"]
    }

    /// What all copies need at most, from the sizes of their arrays, rounded up.
    var memoryMiB: UInt64 {
      let each: UInt64 =
        switch (name, size) {
        case (.ep, _): 1
        case (_, .small): 16
        case (.is, .workstation): 16
        case (.cg, .workstation): 32
        case (.mg, .workstation): 96
        case (.ft, .workstation): 32
        case (.is, .a): 72
        case (.cg, .a): 96
        case (.mg, .a): 700
        case (.ft, .a): 300
        }
      return each * copies
    }
  }

  /// Reads and writes of a file on the guest's disk, each checked, with some work after each.
  public struct DiskLoad: Sendable, Equatable {
    /// The disk has 64 MiB, and its file system needs some of them.
    static let sizeMaxMiB: UInt64 = 48

    public var sizeMiB: UInt64
    /// Of an operation: whole pages, `4...1024`.
    public var blockKiB: UInt64 = 4
    /// nil: as many as the disk and the virtual processor can.
    public var operationsPerSecond: UInt64?
    public var writePercent: UInt64 = 50
    /// Work after each operation: as much as checking so many pages.
    public var computePages: UInt64 = 0
    /// Reads go through the file in order, so that all of it is checked, again and again.
    public var isScanned = false

    public init(sizeMiB: UInt64) { self.sizeMiB = sizeMiB }

    var arguments: [String] {
      [
        "disk=\(sizeMiB)", "block=\(blockKiB)",
        "operations=\(operationsPerSecond.map { "\($0)" } ?? "max")", "writes=\(writePercent)",
        "compute=\(computePages)",
      ] + (isScanned ? ["scan=1"] : [])
    }
  }
}
