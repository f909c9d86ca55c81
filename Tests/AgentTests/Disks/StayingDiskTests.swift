import Foundation
import HostIO
import QMP
import Testing
import Wire

@testable import Agent

/// Disks that don't move with their guest: a destination with a file of its own at the same path is found out.
@Suite struct StayingDiskTests {
  /// Two hosts' folders, with an image of the same name and size in each.
  private final class Hosts: Sendable {
    let path = "/tmp/godwit-staying-\(UUID().uuidString.prefix(8))"
    var here: String { path + "/a/disk.raw" }
    var there: String { path + "/b/disk.raw" }

    init() throws {
      for folder in ["a", "b"] {
        try FileManager.default.createDirectory(
          atPath: "\(path)/\(folder)", withIntermediateDirectories: true)
      }
      for file in [here, there] { try SmallFile.write("the same".utf8, to: file) }
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Whoever looks sees the image and its folder, under another path.
    func share() throws {
      try FileManager.default.removeItem(atPath: path + "/b")
      try FileManager.default.createSymbolicLink(
        atPath: path + "/b", withDestinationPath: path + "/a")
    }

    func probes() throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: path + "/a")
        .filter { $0 != "disk.raw" }
    }
  }

  private static func facts(
    _ file: String, device: String = "vd0", _ change: (inout VMFacts.Disk) -> Void = { _ in }
  ) -> VMFacts {
    var facts = VMFacts(
      version: QEMUVersion(10, 0, 2), usesKVM: false, machineType: "q35", uuid: "",
      runState: "running", isRunning: true, cpuCount: 1, ramBlocks: [], migrationStatus: "none")
    var disk = VMFacts.Disk(device: device, nodeName: "n0", fileName: file, virtualSize: 8)
    change(&disk)
    facts.disks = [disk]
    return facts
  }

  private func leave(
    _ facts: VMFacts, moving: [ClaimedDisk]? = nil, _ wishes: DiskWishes? = nil
  ) -> (disks: [StayingDisk], unseen: [String]) {
    var random = SystemRandomNumberGenerator()
    return StayingDisk.leaveProbes(
      facts, moving: moving, wishes, MigrationID(using: &random))
  }

  @Test func anotherFileIsRefusedByName() throws {
    let hosts = try Hosts()
    let (disks, unseen) = leave(Self.facts(hosts.here))
    #expect(disks.map(\.name) == ["n0"] && unseen.isEmpty)
    let refusal = try #require(StayingDisk.refusals(disks, Self.facts(hosts.there)).first)
    #expect(refusal.description.contains(hosts.here) && refusal.description.contains(hosts.there))
    #expect(refusal.description.contains("--shared-disk n0"))
  }

  @Test func theSameFileIsSeenByAnyPath() throws {
    let hosts = try Hosts()
    try hosts.share()
    let (disks, _) = leave(Self.facts(hosts.here))
    #expect(disks.count == 1)
    #expect(StayingDisk.refusals(disks, Self.facts(hosts.here)).isEmpty)
    #expect(StayingDisk.refusals(disks, Self.facts(hosts.there)).isEmpty)
    // As another folder has it that shares inode numbers by chance.
    for probe in try hosts.probes() {
      try FileManager.default.removeItem(atPath: hosts.path + "/a/" + probe)
    }
    #expect(StayingDisk.refusals(disks, Self.facts(hosts.there)).count == 1)
  }

  /// Nothing can be said of them, or nothing has to.
  @Test func othersAreLeftAlone() throws {
    let hosts = try Hosts()
    func isLeft(_ facts: VMFacts, _ wishes: DiskWishes? = nil) -> Bool {
      leave(facts, wishes).disks.isEmpty
    }
    #expect(isLeft(Self.facts(hosts.here) { $0.isReadOnly = true }))
    #expect(isLeft(Self.facts(hosts.here, device: "pflash1")))
    #expect(isLeft(Self.facts(hosts.here, device: "/machine/system.flash1")))
    var wishes = DiskWishes()
    wishes.names = []
    wishes.shared = ["n0"]
    #expect(isLeft(Self.facts(hosts.here), wishes))
    wishes.shared = ["n1"]
    #expect(!isLeft(Self.facts(hosts.here), wishes))
    let moving = ClaimedDisk(
      target: "n0",
      claim: DiskClaim(device: "vd0", name: "n0", sourcePath: hosts.here, byteCount: 8))
    #expect(leave(Self.facts(hosts.here), moving: [moving]).disks.isEmpty)
    for file in ["/dev/null", "nbd+unix:///disk?socket=/s", "disk.raw", hosts.path + "/a/none"] {
      let (disks, unseen) = leave(Self.facts(file))
      #expect(disks.isEmpty && unseen == ["n0"], "\(file)")
    }
    // At the destination: another kind of thing, or none.
    let (disks, _) = leave(Self.facts(hosts.here))
    for file in ["/dev/null", "nbd://host/disk", hosts.path + "/b/none"] {
      #expect(StayingDisk.refusals(disks, Self.facts(file)).isEmpty, "\(file)")
    }
  }

  @Test func probesGoAway() async throws {
    let hosts = try Hosts()
    let (disks, _) = leave(Self.facts(hosts.here))
    #expect(try hosts.probes().count == 1)
    StayingDisk.dropProbes(disks)
    while try !hosts.probes().isEmpty { try await Task.sleep(for: .milliseconds(5)) }
  }
}
