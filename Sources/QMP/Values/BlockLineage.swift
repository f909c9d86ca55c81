/// `query-blockstats`: the images that a device's disk is made of, by the names of their nodes.
///
/// The only stable reply that says which node is below which (QEMU 7.2 and 10.0). Filters that jobs put in are left out.
public struct BlockLineage: Sendable, Hashable {
  /// Longest chain that is looked at.
  public static let countMax = 64

  public struct Layer: Sendable, Hashable {
    /// Empty, or begins with `#`: nobody has named it.
    public let nodeName: String
    /// Of the node that has the image's bytes; nil: none.
    public let fileNodeName: String?
  }

  /// As for `BlockDevice`.
  public let device: String
  public let qdev: String?
  /// The image that the guest sees, then what is behind it.
  public let layers: [Layer]

  init?(_ json: JSONValue) {
    (device, qdev) = (json["device"]?.string ?? "", json["qdev"]?.string)
    var layers: [Layer] = []
    var next: JSONValue? = json
    while let current = next, layers.count < Self.countMax {
      layers.append(
        Layer(
          nodeName: current["node-name"]?.string ?? "",
          fileNodeName: current["parent"]?["node-name"]?.string))
      next = current["backing"]
    }
    self.layers = layers
    guard json["stats"] != nil else { return nil }
  }
}
