import Testing

@testable import Agent
@testable import QMP

/// Which qcow2 disks may go over an overlay, where on their way they are, and what comes next.
@Suite struct OverlayDiskTests {
  typealias Node = GuestDiskTests

  static func lineage(_ layers: [(String, String?)]) throws -> BlockLineage {
    func json(_ rest: ArraySlice<(String, String?)>) -> JSONValue {
      var fields: [String: JSONValue] = ["stats": .object([:])]
      if let (name, file) = rest.first {
        fields["node-name"] = .string(name)
        if let file { fields["parent"] = ["node-name": .string(file)] }
      }
      if rest.count > 1 { fields["backing"] = json(rest.dropFirst()) }
      return .object(fields)
    }
    guard case .object(var top) = json(layers[...]) else { throw GuestDiskError.ambiguous("") }
    top["qdev"] = "/machine/peripheral/vd0/virtio-backend"
    top["device"] = "drive0"
    return try #require(BlockLineage(.object(top)))
  }

  static func find(
    _ name: String, root: JSONValue, _ layers: [(String, String?)], _ others: [BlockNode]
  ) throws -> OverlayDisk? {
    let device = try #require(
      BlockDevice([
        "device": "drive0", "qdev": "/machine/peripheral/vd0/virtio-backend", "inserted": root,
        "removable": false,
      ]))
    return try OverlayDisk.find(
      name, devices: [device], nodes: [try #require(BlockNode(root))] + others,
      lineages: [try lineage(layers)])
  }

  /// The disk in each place, with the nodes that `more` names lying about.
  static func disk(
    _ place: OverlayDisk.Place, lying more: [String] = []
  ) throws -> OverlayDisk {
    let uri = "nbd+unix:///x?socket=/s"
    let overlay: (String, String?) = ("go-n0", "go-f0")
    let server: (String, String?) = ("gq-n0", "gq-f0")
    let format: (String, String?) = ("n0", "f0")
    let layers: [(String, String?)]
    switch place {
    case .file: layers = [format]
    case .overFile: layers = [overlay, format]
    case .overServer: layers = [overlay, server]
    case .server: layers = [server]
    }
    let root: JSONValue
    switch place {
    case .file: root = Node.json("n0", "qcow2", "/d.qcow2")
    case .server: root = Node.json("gq-n0", "raw", uri)
    case .overFile, .overServer: root = Node.json("go-n0", "qcow2", "/d.qcow2.godwit-overlay")
    }
    let inUse = layers.flatMap { [$0.0, $0.1 ?? ""] }
    var others = [try Node.node("f0", "file", "/d.qcow2")]
    for name in Set(inUse + more).subtracting(["f0", layers[0].0]).sorted() {
      others.append(
        try Node.node(name, name == "gq-f0" ? "nbd" : "qcow2", name == "gq-f0" ? uri : "/x"))
    }
    return try #require(try find("vd0", root: root, layers, others))
  }

  @Test(arguments: OverlayDisk.Place.allCases) func nodesSayWhereItIs(place: OverlayDisk.Place)
    throws
  {
    let disk = try Self.disk(place)
    #expect(disk.place == place && disk.name == "n0" && disk.fileNodeName == "f0")
    #expect(disk.path == "/d.qcow2" && disk.overlayPath == "/d.qcow2.godwit-overlay")
    let isKnown = place == .overServer || place == .server
    #expect(disk.serverSocket == (isKnown ? "/s" : nil))
    #expect(disk.serverExport == (isKnown ? "x" : nil))
  }

  @Test(arguments: ["n0", "vd0", "drive0", "/d.qcow2"]) func isFoundByAnyOfItsNames(name: String)
    throws
  {
    let root = Node.json("n0", "qcow2", "/d.qcow2")
    let file = try Node.node("f0", "file", "/d.qcow2")
    #expect(try Self.find(name, root: root, [("n0", "f0")], [file]) != nil)
    // A raw disk goes another way, and a stranger isn't there.
    let raw = Node.json("n0", "raw", "/d.qcow2")
    #expect(try Self.find(name, root: raw, [("n0", "f0")], [file]) == nil)
    #expect(try Self.find("x", root: root, [("n0", "f0")], [file]) == nil)
  }

  @Test func whatCantGoThisWayIsRefusedByName() throws {
    let qcow2 = Node.json("n0", "qcow2", "/d")
    let file = try Node.node("f0", "file", "/d")
    let dataFile: JSONValue = [
      "node-name": "n0", "drv": "qcow2",
      "image": ["format-specific": ["type": "qcow2", "data": ["data-file": "/data"]]],
    ]
    let long = "a-name-of-more-than-28-bytes-"
    let cases: [(GuestDiskError, JSONValue, [(String, String?)], [BlockNode])] = [
      (
        .notInAFile("vd0", driver: "host_device"), qcow2, [("n0", "f0")],
        [try Node.node("f0", "host_device", "/d")]
      ),
      (
        .notInAFile("vd0", driver: "file"), qcow2, [("n0", "f0")],
        [try Node.node("f0", "file", "d")]
      ),
      (
        .readOnly("vd0"), Node.json("n0", "qcow2", "/d", readOnly: true), [("n0", "f0")], [file]
      ),
      (.partOfFile("vd0"), dataFile, [("n0", "f0")], [file]),
      (.unnamed("vd0"), qcow2, [("n0", "#block1")], [file]),
      (.unnamed("vd0"), Node.json(long, "qcow2", "/d"), [(long, "f0")], [file]),
      (.ambiguous("vd0"), qcow2, [("n1", "f0")], [file]),
      (.ambiguous("vd0"), qcow2, [("n0", "f0")], []),
      (
        .ambiguous("vd0"), Node.json("go-n0", "qcow2", "/o"),
        [("go-n0", "go-f0"), ("other", "b0")], [file]
      ),
    ]
    for (error, root, layers, others) in cases {
      #expect(throws: error) { try Self.find("vd0", root: root, layers, others) }
    }
  }

  /// Those of the nodes that QEMU closes next; others stay where they are.
  @Test func bitmapsThatGoAreKnown() throws {
    func bitmap(_ name: String, persistent: Bool) -> JSONValue {
      ["name": .string(name), "persistent": .bool(persistent), "busy": false, "recording": true]
    }
    func with(_ node: JSONValue, _ bitmaps: JSONValue...) throws -> JSONValue {
      guard case .object(var fields) = node else { throw GuestDiskError.ambiguous("") }
      fields["dirty-bitmaps"] = .array(bitmaps)
      return .object(fields)
    }
    let nameless: JSONValue = ["persistent": false, "busy": true]
    let root = try with(
      Node.json("n0", "qcow2", "/d"), bitmap("kept", persistent: true), nameless,
      bitmap("lost", persistent: false))
    let file = try with(Node.json("f0", "file", "/d"), bitmap("stays", persistent: false))
    let below = try #require(BlockNode(file))
    let disk = try #require(try Self.find("vd0", root: root, [("n0", "f0")], [below]))
    #expect(disk.bitmaps.map(\.name) == ["kept", "lost"])
    #expect(disk.bitmaps.map(\.isPersistent) == [true, false])
    #expect(disk.bitmaps.allSatisfy { !$0.isBusy })
  }

  @Test func eachStepLeadsOn() throws {
    typealias Step = OverlayStep
    let cases: [(OverlayDisk.Place, [String], JobInfo.Status?, Step.Goal, Step?)] = [
      (.file, [], nil, .server, .freeze), (.file, [], nil, .file, nil),
      (.overFile, [], nil, .server, .moveToServer), (.overFile, [], nil, .file, .commitToFile),
      (.overServer, ["n0"], nil, .server, .dropFormat),
      (.overServer, [], nil, .server, .commitToServer),
      (.overServer, [], nil, .file, .moveToFile), (.overServer, ["n0"], nil, .file, .moveToFile),
      (.server, [], nil, .server, nil), (.server, [], nil, .file, .freeze),
      // What somebody left who was killed.
      (.file, ["go-f0"], nil, .server, .dropOverlay), (.file, ["go-n0"], nil, .file, .dropOverlay),
      (.file, ["gq-f0"], nil, .file, .dropServer), (.file, ["gq-n0"], nil, .server, .dropServer),
      (.overFile, ["gq-f0"], nil, .file, .dropServer),
      (.server, ["go-n0"], nil, .server, .dropOverlay),
      (.server, ["n0"], nil, .server, .dropFormat),
      // A copy goes on when it leads there, and ends otherwise; one that holds the guest up always goes on.
      (.overServer, [], .running, .server, .follow), (.overServer, [], .ready, .file, .cancel),
      (.overFile, [], .running, .server, .cancel), (.overFile, [], .ready, .file, .follow),
      (.overServer, [], .pending, .file, .follow), (.overFile, [], .pending, .server, .follow),
      (.file, ["go-n0"], .concluded, .server, .dismiss),
      (.overFile, [], .concluded, .file, .dismiss),
    ]
    for (place, lying, job, goal, step) in cases {
      let found = Step.next(try Self.disk(place, lying: lying), job: job, goal: goal)
      #expect(found == step, "\(place) \(lying) \(String(describing: job)) to \(goal)")
    }
  }

  /// Whoever reads an overlay after a crash finds the image by its header, and QEMU forgets what isn't said.
  @Test func whatQEMUIsTold() throws {
    let nodes = OverlayNodes(try Self.disk(.overFile), discard: true)
    #expect(
      nodes.overlay(over: "gq-n0") == [
        "driver": "qcow2", "node-name": "go-n0", "file": "go-f0", "backing": "gq-n0",
        "read-only": false, "discard": "unmap", "detect-zeroes": "on",
        "cache": ["direct": true, "no-flush": false],
      ])
    #expect(nodes.overlay(over: nil)["backing"] == .null)
    #expect(nodes.format(over: nil)["backing"] == nil && nodes.format(over: nil)["file"] == "f0")
    #expect(nodes.format(over: "b0")["backing"] == "b0")
  }

  /// Only what the headers say, in that order, is what the server reads.
  @Test func backingImagesAreTheHeaders() throws {
    // Any paths that exist will do.
    let chain = try #require(
      BackingChain([
        ["filename": "/proc", "format": "qcow2"], ["filename": "/sys", "format": "raw"],
      ]))
    func isSame(_ layers: [(String, String)]) -> Bool {
      chain.isSame(as: layers.map { BlockLayer(fileName: $0.0, format: $0.1) })
    }
    #expect(isSame([("/proc/.", "qcow2"), ("/sys", "raw")]))
    #expect(!isSame([("/proc", "qcow2"), ("/sys", "qcow2")]))
    #expect(!isSame([("/proc", "qcow2"), ("/dev", "raw")]))
    #expect(!isSame([("/proc", "qcow2")]))
    #expect(!isSame([("/proc", "qcow2"), ("/none", "raw")]))
    #expect(BackingChain([["filename": "/proc"]]) == nil && BackingChain(.array([])) == nil)
    let nodes = [
      try Node.node("b0", "raw", "json:{}"), try Node.node("bf", "file", "/sys"),
      try Node.node("n0", "qcow2", "/proc"), try Node.node("f0", "file", "/proc"),
    ]
    let lineages = [try Self.lineage([("n0", "f0")]), try Self.lineage([("b0", "bf")])]
    #expect(chain.namedBacking(among: nodes, lineages) == "b0")
    #expect(chain.namedBacking(among: nodes, [lineages[0]]) == nil)
  }
}
