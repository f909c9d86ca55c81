import HostIO
import Testing

@testable import Agent

/// Which disks move is said by people, and understood or refused by name.
@Suite struct DiskSelectionTests {
  private static let disks = [
    VMFacts.Disk(
      device: "/machine/peripheral/vd0/virtio-backend", nodeName: "n0", fileName: "/v/a.raw",
      virtualSize: 1 << 20),
    VMFacts.Disk(
      device: "drive1", nodeName: "#block123", driver: "qcow2", fileName: "/v/b.qcow2",
      virtualSize: 1 << 20),
    VMFacts.Disk(
      device: "cd0", nodeName: "#block7", fileName: "/v/c.iso", virtualSize: 1 << 20,
      isReadOnly: true),
    VMFacts.Disk(
      device: "drive2", nodeName: "n2", fileName: "nbd://there:10809/x", virtualSize: 1 << 20),
  ]

  private func choose(_ change: (inout DiskWishes) -> Void) -> ([ClaimedDisk], [Refusal]) {
    var wishes = DiskWishes()
    change(&wishes)
    let chosen = DiskSelection.choose(Self.disks, wishes)
    return (chosen.claims, chosen.refusals)
  }

  @Test(arguments: ["n0", "vd0", "/v/a.raw", "/machine/peripheral/vd0/virtio-backend"])
  func aDiskHasManyNames(name: String) throws {
    let (claims, refusals) = choose { $0.names = [name] }
    #expect(refusals.isEmpty && claims.count == 1)
    let claim = try #require(claims.first)
    #expect(claim.target == "n0" && claim.claim.name == "n0" && claim.claim.obstacle == nil)
    #expect(claim.claim.sourcePath == "/v/a.raw" && claim.claim.wantedPath == nil)
  }

  @Test func allIsEveryDiskAndSaysWhatCannotBeCopied() throws {
    let (claims, refusals) = choose { _ in }
    #expect(refusals.isEmpty && claims.map(\.claim.name) == ["n0", "drive1", "cd0", "n2"])
    let obstacles = claims.map { $0.claim.obstacle?.cause ?? "" }
    #expect(obstacles[0].isEmpty)
    #expect(obstacles[1].contains("is qcow2") && obstacles[1].contains("drive1"))
    #expect(obstacles[2].contains("read-only") && obstacles[2].contains("/v/c.iso"))
    #expect(obstacles[3].contains("no file of this host"))
    // QEMU has names of its own for what nobody named.
    #expect(claims[1].target == "#block123")
  }

  @Test func aPlaceAtTheDestinationIsEnoughForWhatIsNoFile() {
    let (claims, _) = choose { wishes in
      wishes.names = ["n2"]
      wishes.paths = ["drive2": "/v/x.raw"]
    }
    #expect(claims.first?.claim.wantedPath == "/v/x.raw")
    #expect(claims.first?.claim.obstacle == nil)
  }

  @Test func whatIsSharedIsNotClaimed() {
    let (claims, refusals) = choose { $0.shared = ["drive1", "cd0", "n2"] }
    #expect(refusals.isEmpty && claims.map(\.target) == ["n0"])
  }

  @Test func unknownNamesAndBadPathsAreRefused() {
    let (_, refusals) = choose { wishes in
      wishes.names = ["n0", "n0", "sda"]
      wishes.shared = ["sdb"]
      wishes.paths = ["n0": "relative/../x", "sdc": "/x"]
    }
    let causes = refusals.map(\.cause)
    for name in ["sda", "sdb", "sdc"] {
      #expect(causes.contains { $0.contains(name) }, "\(causes)")
    }
    #expect(causes.contains { $0.contains("relative") })
    #expect(choose { $0.names = ["n0", "vd0"] }.0.count == 1)
  }
}

/// When the memory may follow the disks.
@Suite struct DiskCopyMachineTests {
  private static let disk: UInt64 = 64 << 30

  @Test func autoMirrorsOnceLittleIsLeftAndThenWaitsUntilNothingIs() {
    var machine = DiskCopyMachine(.auto, canChange: true, byteCount: Self.disk)
    #expect(machine.look(nowMs: 0, owedBytes: Self.disk, isReady: false) == .goOn)
    #expect(machine.look(nowMs: 100, owedBytes: 1 << 30, isReady: false) == .writeToBoth)
    #expect(machine.look(nowMs: 200, owedBytes: 1 << 20, isReady: false) == .goOn)
    #expect(machine.look(nowMs: 300, owedBytes: 0, isReady: true) == .ready)
  }

  @Test func autoMirrorsAGuestThatWritesFasterThanTheLinkCarries() {
    var machine = DiskCopyMachine(.auto, canChange: true, byteCount: Self.disk)
    #expect(machine.look(nowMs: 0, owedBytes: 8 << 30, isReady: false) == .goOn)
    #expect(machine.look(nowMs: 30_000, owedBytes: 9 << 30, isReady: false) == .goOn)
    #expect(machine.look(nowMs: 30_001, owedBytes: 9 << 30, isReady: false) == .writeToBoth)
    // Mirroring ends by itself, however long that takes.
    #expect(machine.look(nowMs: 90_000, owedBytes: 9 << 30, isReady: false) == .goOn)
    #expect(machine.look(nowMs: 190_000, owedBytes: 9 << 30, isReady: false) == .goOn)
  }

  @Test(arguments: [DiskWishes.Method.auto, .precopy])
  func withoutMirroringItIsGivenUpInTime(method: DiskWishes.Method) {
    var machine = DiskCopyMachine(method, canChange: method == .precopy, byteCount: Self.disk)
    for step in 0...10 {
      let owed = Self.disk - UInt64(step) << 30
      #expect(machine.look(nowMs: UInt64(step) * 29_000, owedBytes: owed, isReady: false) == .goOn)
    }
    guard
      case .abandon(let reason) = machine.look(
        nowMs: 10 * 29_000 + 30_001, owedBytes: Self.disk, isReady: false)
    else {
      Issue.record("not given up")
      return
    }
    #expect(reason.contains("--disk-method mirror"))
  }

  @Test func readyIsReady() {
    for method in DiskWishes.Method.allCases {
      var machine = DiskCopyMachine(method, canChange: false, byteCount: Self.disk)
      #expect(machine.look(nowMs: 0, owedBytes: 0, isReady: true) == .ready)
    }
  }
}
