import QMP
import Testing

@testable import Agent

/// What a destination lets a source write to.
@Suite struct DiskReceptionTests {
  private static let device = "/machine/peripheral/vd0/virtio-backend"

  private func wanted(_ path: String, device: String = Self.device, updatesCopy: Bool?)
    -> IncomingDisks.Wanted
  {
    IncomingDisks.Wanted(
      claim: DiskClaim(
        device: device, name: "n0", sourcePath: "/s.raw", byteCount: 1 << 20,
        updatesCopy: updatesCopy), path: path)
  }

  private func facts(_ change: (inout VMFacts.Disk) -> Void = { _ in }) -> VMFacts {
    var facts = VMFacts(
      version: QEMUVersion(10, 0, 2), usesKVM: false, machineType: "q35", uuid: "",
      runState: "inmigrate", isRunning: false, cpuCount: 1, ramBlocks: [], migrationStatus: "none")
    var disk = VMFacts.Disk(
      device: Self.device, nodeName: "n0", fileName: "/d/disk.raw", virtualSize: 1 << 20)
    change(&disk)
    facts.disks = [disk]
    return facts
  }

  /// A file that was there before is written to only where the guest itself may write to it.
  @Test func whatWasThereHasToBeThatVeryDisk() {
    func isRefused(_ wanted: IncomingDisks.Wanted, _ facts: VMFacts) -> Bool {
      !DiskReception.check([wanted], facts).isEmpty
    }
    for updates in [nil, true] as [Bool?] {
      #expect(!isRefused(wanted("/d/disk.raw", updatesCopy: updates), facts()))
      #expect(isRefused(wanted("/d/other.raw", updatesCopy: updates), facts()))
      #expect(
        isRefused(wanted("/d/disk.raw", updatesCopy: updates), facts { $0.driver = "qcow2" }))
    }
    #expect(isRefused(wanted("/d/disk.raw", updatesCopy: true), facts { $0.isReadOnly = true }))
    #expect(isRefused(wanted("/d/disk.raw", device: "vd7", updatesCopy: true), facts()))
    // A kernel, say, whose path the disk's begins with.
    #expect(isRefused(wanted("/d/disk", updatesCopy: true), facts()))
  }
}
