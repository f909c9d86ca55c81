public import Base

/// A guest as an experiment wants it; where it runs is said elsewhere (`GuestPlacement`).
public struct GuestSpecification: Sendable, Equatable {
  /// QEMU's machine; `pc` and `q35` in the version of the older QEMU.
  public enum Machine: String, Sendable, CaseIterable { case pc, q35, microvm }
  /// What guest RAM is made of: QEMU's own anonymous memory, a shared memfd, a shared file in
  /// `/dev/shm`, a shared memfd of huge pages.
  public enum Backend: String, Sendable, CaseIterable { case none, memfd, file, hugepages }
  /// How the guest's processors run.
  public enum Accelerator: String, Sendable, CaseIterable { case tcg, kvm }

  public var name = "quickstart"
  public var memory = ByteCount.mebibytes(512)
  public var machine = Machine.pc
  public var backend = Backend.none
  public var accelerator = Accelerator.tcg
  /// Virtual processors, `1...64`.
  public var cpus = 1
  /// NUMA nodes, each a RAM block of its own, `1...8`.
  public var numaNodes = 1
  /// The workload's arguments (`Guest/`).
  public var workload = Workload()
  /// memcached's memory in MiB; nil: no memcached.
  public var memcachedMiB: UInt64? = 64
  /// redis's memory in MiB; nil: no redis. A guest has one of the two at most.
  public var redisMiB: UInt64?
  public var hasRandomDevice = true
  public var hasDisk = true
  /// Bytes of files on a root disk, all of which the guest has read before it begins its work; nil: no such disk.
  public var rootDisk: ByteCount?

  public init() {}

  /// What its clients talk to; nil: it has none.
  var server: StoreServer? {
    memcachedMiB != nil ? .memcached : redisMiB != nil ? .redis : nil
  }

  /// Memory that is written again and again, in bytes: the workload's its server's and a kernel's.
  var workingSetBytes: UInt64 {
    (workload.hotMiB + (memcachedMiB ?? redisMiB ?? 0) + (workload.kernel?.memoryMiB ?? 0)) << 20
  }

  /// RAM that the workload may fill: kernel, image, memcached and page tables need the rest.
  var workloadRoomMiB: UInt64 {
    // What is read from the root disk stays in memory as long as there is room.
    let reserve =
      150 + (memcachedMiB ?? redisMiB ?? 0) + (rootDisk.map { ($0.bytes >> 20) + 32 } ?? 0)
      + (workload.kernel?.memoryMiB ?? 0)
    let total = memory.bytes >> 20
    return total > reserve + 16 ? total - reserve : 16
  }

  /// Sizes of the RAM blocks in KiB, one per NUMA node.
  ///
  /// QEMU before 9.0 loses dirty pages under TCG when a block is a multiple of 256 KiB
  /// (`DirtyLogDefect`); 64 KiB more per block avoid it.
  func blockSizesKiB(avoidingDirtyLogDefect: Bool) throws -> [UInt64] {
    let share = (memory.bytes >> 10) / UInt64(max(numaNodes, 1))
    guard share >= 64 << 10 else { throw LabError("a guest needs at least 64 MiB per NUMA node") }
    let needsOddSize = avoidingDirtyLogDefect && accelerator == .tcg && share % 256 == 0
    if needsOddSize && backend == .hugepages {
      throw LabError(
        "huge pages cannot be combined with QEMU before 9.0 under TCG: it loses dirty pages unless"
          + " RAM is no multiple of 256 KiB; use QEMU 9.0 or newer on both sides")
    }
    return Array(repeating: needsOddSize ? share + 64 : share, count: max(numaNodes, 1))
  }

  /// Refuses huge pages where the machine does not have enough of them for both sides.
  func checkHugePages(free: UInt64?) throws {
    guard backend == .hugepages else { return }
    let needed = 2 * ((memory.bytes + (2 << 20) - 1) / (2 << 20))
    guard let free, free >= needed else {
      throw LabError(
        "too few free huge pages: \(free ?? 0) of \(needed); as root run:"
          + " sysctl vm.nr_hugepages=\(needed)")
    }
  }

  func validate() throws {
    guard (1...64).contains(cpus) else { throw LabError("--smp must be within 1...64") }
    guard (1...8).contains(numaNodes) else { throw LabError("--numa must be within 1...8") }
    if machine == .microvm && numaNodes > 1 { throw LabError("microvm has no NUMA nodes") }
    if machine == .microvm && rootDisk != nil {
      throw LabError("microvm numbers its disks the other way round: no root disk there")
    }
    if let rootDisk, !(RootDisk.sizeMin...RootDisk.sizeMax).contains(rootDisk) {
      throw LabError("a root disk has \(RootDisk.sizeMin) to \(RootDisk.sizeMax) of files")
    }
    if memcachedMiB != nil && redisMiB != nil {
      throw LabError("a guest has memcached or redis, not both")
    }
    if let disk = workload.disk {
      guard hasDisk else { throw LabError("a disk load needs the guest's disk") }
      guard (1...DiskLoad.sizeMaxMiB).contains(disk.sizeMiB), (4...1024).contains(disk.blockKiB),
        disk.blockKiB % 4 == 0
      else {
        throw LabError(
          "a disk load has 1 to \(DiskLoad.sizeMaxMiB) MiB, in blocks of 4 to 1024 KiB, whole pages"
        )
      }
    }
    if numaNodes > cpus { throw LabError("--numa \(numaNodes) needs --smp \(numaNodes) or more") }
  }
}
