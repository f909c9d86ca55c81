import HostIO
import Testing

@testable import Agent
@testable import QMP

/// Which disks are behind servers, and what becomes of them when they move with their guest.
@Suite struct AttachedDiskTests {
  private typealias Node = GuestDiskTests
  private static let device = "drive0"

  private static func find(
    root: JSONValue, _ others: [BlockNode], _ layers: [(String, String?)] = [("n0", "f0")]
  ) throws -> AttachedDisk? {
    let device = try #require(
      BlockDevice([
        "device": .string(device), "qdev": "/machine/peripheral/vd0/virtio-backend",
        "inserted": root, "removable": false,
      ]))
    return AttachedDisk.find(
      [device], [try #require(BlockNode(root))] + others, [try OverlayDiskTests.lineage(layers)])[
        Self.device]
  }

  @Test func nodesSayWhichServerHasWhichImage() throws {
    let uri = "nbd+unix:///x?socket=/s"
    let file = try Node.node("f0", "file", "/d.raw")
    let raw = Node.json("n0", "raw", uri)
    #expect(
      try Self.find(root: raw, [file, try Node.node("gw-f0", "nbd", uri)])
        == AttachedDisk(name: "n0", image: "/d.raw", socket: "/s", export: "x"))
    #expect(
      try Self.find(
        root: Node.json("gq-n0", "raw", uri), [file, try Node.node("gq-f0", "nbd", uri)],
        [("gq-n0", "gq-f0")])
        == AttachedDisk(name: "n0", image: "/d.raw", isQcow2: true, socket: "/s", export: "x"))
    // On its file, and on another's server.
    #expect(try Self.find(root: Node.json("n0", "raw", "/d.raw"), [file]) == nil)
    #expect(try Self.find(root: raw, [try Node.node("t", "nbd", uri)]) == nil)
    #expect(AttachedDisk(name: "n0", image: "/d", socket: "/s", export: "").control == "/s.control")
  }

  @Test func aDiskOnItsWayIsNotThereYet() throws {
    for place in [OverlayDisk.Place.overFile, .overServer] {
      let (uri, overlay) = ("nbd+unix:///x?socket=/s", "/d.qcow2.godwit-overlay")
      let layers: [(String, String?)] = [
        ("go-n0", "go-f0"), place == .overFile ? ("n0", "f0") : ("gq-n0", "gq-f0"),
      ]
      #expect(
        try Self.find(
          root: Node.json("go-n0", "qcow2", overlay),
          [
            try Node.node("f0", "file", "/d.qcow2"), try Node.node("go-f0", "file", overlay),
            try Node.node("gq-f0", "nbd", uri), try Node.node("gq-n0", "raw", uri),
          ], layers) == nil)
    }
  }

  private static let guest = VMFacts.Disk(
    device: device, nodeName: "n0", fileName: "nbd+unix:///x?socket=/s", virtualSize: 1 << 20)
  private static let server = AttachedDisk(name: "n0", image: "/d.raw", socket: "/s", export: "x")

  private func claim(
    _ disk: VMFacts.Disk = guest, _ server: AttachedDisk? = server,
    _ change: (inout DiskWishes) -> Void = { _ in }
  ) throws -> ClaimedDisk {
    var wishes = DiskWishes()
    change(&wishes)
    let chosen = DiskSelection.choose([disk], wishes, server.map { [Self.device: $0] } ?? [:])
    #expect(chosen.refusals.isEmpty)
    return try #require(chosen.claims.first)
  }

  /// The image is what is looked for at the destination, not the server's socket.
  @Test(arguments: ["n0", "/d.raw", "drive0"]) func itIsKnownByItsImage(name: String) throws {
    let claim = try self.claim { $0.names = [name] }
    #expect(claim.server == Self.server && claim.claim.sourcePath == "/d.raw")
    #expect(claim.claim.obstacle == nil && claim.claim.name == "n0")
  }

  @Test func someMethodsNeedAServer() throws {
    for method in DiskWishes.Method.allCases {
      let claim = try self.claim { $0.method = method }.claim
      #expect(claim.obstacle == nil)
      #expect((claim.updatesCopy == true) == (method == .incremental))
      let plain = VMFacts.Disk(
        device: Self.device, nodeName: "n0", fileName: "/d.raw", virtualSize: 1 << 20)
      let obstacle = try self.claim(plain, nil) { $0.method = method }.claim.obstacle
      #expect((obstacle != nil) == ![.auto, .precopy, .mirror].contains(method))
      if let obstacle {
        #expect(obstacle.cause.contains(method.rawValue))
        #expect(obstacle.remedy.contains("godwit block attach VM n0"))
      }
    }
  }

  @Test func aQcow2DiskComesAsARawOne() throws {
    var server = Self.server
    (server.isQcow2, server.image) = (true, "/d.qcow2")
    let refused = try claim(Self.guest, server).claim.obstacle
    #expect(
      refused?.cause.contains("qcow2") == true && refused?.remedy.contains("--disk-map") == true)
    #expect(try claim(Self.guest, server) { $0.paths = ["n0": "/x.raw"] }.claim.obstacle == nil)
  }

  @Test func whatIsOfOneDiskIsGivenToOne() {
    for method in DiskWishes.Method.allCases {
      #expect(DiskSelection.refusal(method, movingCount: 1) == nil)
      let isRefused = DiskSelection.refusal(method, movingCount: 2) != nil
      #expect(isRefused == [.waio, .snapmig, .incremental].contains(method))
    }
  }

  @Test func whatGoesTogetherIsAskedForTogether() {
    func problem(_ change: (inout DiskWishes) -> Void) -> String? {
      var request = MigrationRequest(vm: "a", destination: "b")
      var wishes = DiskWishes()
      change(&wishes)
      request.disks = wishes
      return request.problem
    }
    #expect(problem { _ in } == nil)
    #expect(problem { $0.method = .iofollow } == nil)
    #expect(problem { $0.method = .waio } != nil && problem { $0.surrogate = "/s" } != nil)
    #expect(problem { ($0.method, $0.surrogate) = (.waio, "/s") } == nil)
    #expect(problem { ($0.method, $0.manifest) = (.snapmig, "/m") } != nil)
    #expect(problem { ($0.method, $0.backups) = (.snapmig, ["u"]) } != nil)
    #expect(problem { ($0.manifest, $0.backups) = ("/m", ["u"]) } != nil)
    #expect(problem { ($0.method, $0.manifest, $0.backups) = (.snapmig, "m", ["u"]) } != nil)
    #expect(problem { ($0.method, $0.manifest, $0.backups) = (.snapmig, "/m", ["u"]) } == nil)
    #expect(
      problem { $0.method = .incremental } != nil && problem { $0.baseManifest = "/b" } != nil)
    #expect(problem { ($0.method, $0.baseManifest) = (.incremental, "b") } != nil)
    #expect(
      problem { ($0.method, $0.baseManifest, $0.manifest) = (.incremental, "/b", "/m") } == nil)
    let many = Array(repeating: "u", count: DiskWishes.backupsMax + 1)
    #expect(problem { ($0.method, $0.manifest, $0.backups) = (.snapmig, "/m", many) } != nil)
  }
}
