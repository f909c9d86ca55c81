public import QMP

/// What one side knows of a VM, gathered over QMP; sent between agents as JSON.
///
/// What could not be found out is nil, and checks that need it say so or are left out.
public struct VMFacts: Codable, Sendable, Equatable {
  /// A block of the migration stream's, as `RAMBlockInfo` has it.
  public struct RAMBlock: Codable, Sendable, Equatable {
    public var name: String
    /// Bytes that the stream announces, and bytes reserved.
    public var usedSize, totalSize: UInt64
    /// Of the block's memory on the host, in bytes.
    public var pageSize: UInt64

    public init(name: String, usedSize: UInt64, totalSize: UInt64, pageSize: UInt64 = 4096) {
      (self.name, self.usedSize, self.totalSize) = (name, usedSize, totalSize)
      self.pageSize = pageSize
    }
  }

  /// A memory backend: its size in bytes, and whether another process can map it.
  public struct Backend: Codable, Sendable, Equatable {
    public var id: String
    public var size: UInt64
    public var isShared: Bool

    public init(id: String, size: UInt64, isShared: Bool) {
      (self.id, self.size, self.isShared) = (id, size, isShared)
    }
  }

  /// A drive with a medium; sizes in bytes as the guest sees them.
  public struct Disk: Codable, Sendable, Equatable {
    /// Where the guest finds it: the device's id or path in the machine.
    public var device: String
    public var nodeName, driver, fileName: String
    public var virtualSize: UInt64
    public var isReadOnly: Bool

    public init(
      device: String, nodeName: String = "", driver: String = "raw", fileName: String = "",
      virtualSize: UInt64, isReadOnly: Bool = false
    ) {
      (self.device, self.nodeName, self.driver) = (device, nodeName, driver)
      (self.fileName, self.virtualSize, self.isReadOnly) = (fileName, virtualSize, isReadOnly)
    }
  }

  public var version: QEMUVersion
  public var usesKVM: Bool
  /// With aliases resolved: `pc-i440fx-7.2`.
  public var machineType: String
  /// Machine types this QEMU has, aliases left out.
  public var knownMachineTypes: [String] = []
  public var name: String?
  public var uuid: String
  public var runState: String
  public var isRunning: Bool
  /// QOM type of the first vCPU: `qemu64-x86_64-cpu`.
  public var cpuType: String?
  public var cpuFeatures: [CPUFeatureWord] = []
  public var cpuCount: Int
  public var ramBlocks: [RAMBlock]
  public var backends: [Backend] = []
  public var disks: [Disk] = []
  /// Dirty bitmaps on block nodes, by name.
  public var dirtyBitmaps: [String] = []
  /// Capabilities that are on.
  public var capabilities: [String] = []
  /// Capabilities that exist.
  public var knownCapabilities: [String] = []
  /// Name of the TLS credentials that migration would use; empty: none.
  public var tlsCreds = ""
  public var multifdCompression: String?
  public var migrationStatus: String
  /// QEMU's own reasons why this VM cannot migrate.
  public var blockedReasons: [String] = []
  /// Devices with state that is sent while the guest runs: `vfio-pci`, `virtio-mem-pci`.
  public var iterativeDevices: [String] = []

  /// Guest RAM and all other blocks, in bytes.
  public var ramBytes: UInt64 {
    ramBlocks.reduce(0) { sum, block in
      let (total, overflow) = sum.addingReportingOverflow(block.usedSize)
      return overflow ? .max : total
    }
  }

  public init(
    version: QEMUVersion, usesKVM: Bool, machineType: String, uuid: String, runState: String,
    isRunning: Bool, cpuCount: Int, ramBlocks: [RAMBlock], migrationStatus: String
  ) {
    (self.version, self.usesKVM, self.machineType) = (version, usesKVM, machineType)
    (self.uuid, self.runState, self.isRunning) = (uuid, runState, isRunning)
    (self.cpuCount, self.ramBlocks, self.migrationStatus) = (cpuCount, ramBlocks, migrationStatus)
  }
}
