import Testing

@testable import QMP

@Suite struct BlockLayerTests {
  /// What a QEMU with a chain of three says, shortened; and one without an end.
  @Test func imagesBehindOneAnother() throws {
    func image(_ name: String, _ format: String, behind: JSONValue?) -> JSONValue {
      var members: [String: JSONValue] = ["filename": .string(name), "format": .string(format)]
      members["backing-image"] = behind
      return .object(members)
    }
    let chain = image(
      "/top", "qcow2", behind: image("/base", "qcow2", behind: image("/old", "raw", behind: nil)))
    let node = try #require(BlockNode(["drv": "qcow2", "image": chain]))
    #expect(node.layers.map(\.fileName) == ["/top", "/base", "/old"])
    #expect(node.layers.map(\.format) == ["qcow2", "qcow2", "raw"])
    var long: JSONValue?
    for number in 0..<100 { long = image("/\(number)", "raw", behind: long) }
    let deep = try #require(BlockNode(["drv": "raw", "image": long ?? .null]))
    #expect(deep.layers.count == BlockLayer.countMax)
    let none = try #require(BlockNode(["drv": "raw", "image": ["x": 1]]))
    #expect(none.layers.isEmpty)
  }
}
