import Testing

@testable import Agent
@testable import QMP

/// Which disks may be put behind a server, and how they are found.
@Suite struct GuestDiskTests {
  static func json(
    _ name: String, _ driver: String, _ file: String, size: UInt64 = 1 << 20, readOnly: Bool = false
  ) -> JSONValue {
    [
      "node-name": .string(name), "drv": .string(driver), "file": .string(file),
      "ro": .bool(readOnly), "detect_zeroes": "on",
      "image": ["virtual-size": .number("\(size)")],
      "cache": ["direct": true, "no-flush": false, "writeback": true],
    ]
  }

  static func node(
    _ name: String, _ driver: String, _ file: String, size: UInt64 = 1 << 20
  ) throws -> BlockNode { try #require(BlockNode(json(name, driver, file, size: size))) }

  static func find(_ name: String, format: JSONValue, _ others: [BlockNode]) throws -> GuestDisk {
    let device = try #require(
      BlockDevice([
        "device": "drive0", "qdev": "/machine/peripheral/vd0/virtio-backend", "inserted": format,
        "removable": false,
      ]))
    return try GuestDisk.find(
      name, devices: [device], nodes: [try #require(BlockNode(format))] + others)
  }

  @Test(arguments: ["n0", "vd0", "drive0", "/d.raw"]) func isFoundByAnyOfItsNames(name: String)
    throws
  {
    let format = Self.json("n0", "raw", "/d.raw")
    let disk = try Self.find(name, format: format, [try Self.node("f0", "file", "/d.raw")])
    #expect(disk.place == .file && disk.file.nodeName == "f0" && disk.serverNodeName == "gw-f0")
  }

  @Test func theWayBackIsInTheNodesNames() throws {
    let uri = "nbd+unix:///x?socket=/s"
    let nodes = [
      try Self.node("gw-f0", "nbd", uri), try Self.node("f0", "host_device", "/dev/sdx"),
    ]
    let disk = try Self.find("n0", format: Self.json("n0", "raw", uri), nodes)
    #expect(disk.place == .server && disk.file.nodeName == "f0" && disk.serverSocket == "/s")
  }

  @Test func whatCantBePivotedIsRefusedByName() throws {
    let (raw, file) = (Self.json("n0", "raw", "/d"), try Self.node("f0", "file", "/d"))
    let uri = "nbd+unix:///x?socket=/s"
    let long = "a-name-of-more-than-28-bytes-"
    let cases: [(GuestDiskError, String, JSONValue, [BlockNode])] = [
      (.notFound("x", known: ["n0"]), "x", raw, [file]),
      (.notRaw("n0", driver: "qcow2"), "n0", Self.json("n0", "qcow2", "/d"), [file]),
      (.unnamed("drive0"), "drive0", Self.json("#block1", "raw", "/d"), [file]),
      (.unnamed("n0"), "n0", raw, [try Self.node("#block2", "file", "/d")]),
      (.unnamed("n0"), "n0", raw, [try Self.node(long, "file", "/d")]),
      (.partOfFile("n0"), "n0", raw, [try Self.node("f0", "file", "/d", size: 2 << 20)]),
      (.ambiguous("n0"), "n0", raw, [file, try Self.node("f1", "file", "/d")]),
      (.ambiguous("n0"), "n0", raw, []),
      (
        .foreignServer("n0"), "n0", Self.json("n0", "raw", uri),
        [try Self.node("t", "nbd", uri)]
      ),
      (
        .foreignServer("n0"), "n0", Self.json("n0", "raw", uri),
        [try Self.node("gw-f0", "nbd", uri)]
      ),
    ]
    for (error, name, format, others) in cases {
      #expect(throws: error) { try Self.find(name, format: format, others) }
    }
  }

  /// QEMU forgets what isn't said when it reopens a node.
  @Test func whatQEMUWouldForgetIsSaidAgain() throws {
    let format = Self.json("n0", "raw", "/d.raw", readOnly: true)
    let disk = try Self.find("n0", format: format, [try Self.node("f0", "file", "/d.raw")])
    #expect(
      DiskPivot.reopening(disk, child: "gw-f0", discard: true) == [
        "driver": "raw", "node-name": "n0", "file": "gw-f0", "read-only": true,
        "discard": "unmap", "detect-zeroes": "on", "cache": ["direct": true, "no-flush": false],
      ])
  }
}
