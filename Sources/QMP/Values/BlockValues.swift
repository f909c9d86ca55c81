/// `query-named-block-nodes`: one node of the block graph.
public struct BlockNode: Sendable, Hashable {
  public let nodeName, driver: String
  /// As QEMU opened it: a path, or `json:{…}` when a path does not say it all.
  public let fileName: String
  /// Bytes the guest can address.
  public let virtualSize: UInt64
  /// Bytes in use on the host; nil where the driver cannot say.
  public let actualSize: UInt64?
  public let isReadOnly: Bool
  /// False: handed over by migration, not in use here (10.0 and later; nil before).
  public let isActive: Bool?
  /// `off`, `on` or `unmap`.
  public let detectZeroes: String
  /// Past the host's page cache.
  public let isDirect: Bool
  /// The guest's flushes are not passed on.
  public let ignoresFlushes: Bool
  /// The image that the node presents and those behind it, in that order.
  public let layers: [BlockLayer]
  /// Of a qcow2 image whose data are in a file of their own: that file.
  public let dataFile: String?
  /// Those with names; migrating them needs a capability that hides the stream's structure.
  public let dirtyBitmaps: [DirtyBitmap]

  init?(_ json: JSONValue) {
    guard let driver = json["drv"]?.string, let image = json["image"] else { return nil }
    (nodeName, self.driver) = (json["node-name"]?.string ?? "", driver)
    fileName = json["file"]?.string ?? image["filename"]?.string ?? ""
    virtualSize = image["virtual-size"]?.uint64 ?? 0
    actualSize = image["actual-size"]?.uint64
    isReadOnly = json["ro"]?.bool ?? false
    isActive = json["active"]?.bool
    detectZeroes = json["detect_zeroes"]?.string ?? "off"
    isDirect = json["cache"]?["direct"]?.bool ?? false
    ignoresFlushes = json["cache"]?["no-flush"]?.bool ?? false
    layers = BlockLayer.chain(image)
    dataFile = image["format-specific"]?["data"]?["data-file"]?.string
    dirtyBitmaps = (json["dirty-bitmaps"]?.array ?? []).compactMap(DirtyBitmap.init)
  }
}

/// `BlockDirtyInfo`: a named dirty bitmap of a node, by which a backup program knows what has changed.
public struct DirtyBitmap: Sendable, Hashable {
  public let name: String
  /// Kept in the image when that is closed.
  public let isPersistent: Bool
  /// A job or an export uses it.
  public let isBusy: Bool

  init?(_ json: JSONValue) {
    guard let name = json["name"]?.string else { return nil }
    self.name = name
    isPersistent = json["persistent"]?.bool ?? false
    isBusy = json["busy"]?.bool ?? false
  }
}

/// `ImageInfo`: one image of a chain.
public struct BlockLayer: Sendable, Hashable {
  /// Longest chain that is looked at.
  public static let countMax = 16

  /// As for `BlockNode`.
  public let fileName: String
  /// `raw`, `qcow2`.
  public let format: String

  public init(fileName: String, format: String) {
    (self.fileName, self.format) = (fileName, format)
  }

  /// From one `ImageInfo`, whatever is behind it.
  public init?(_ json: JSONValue) {
    guard let name = json["filename"]?.string, let format = json["format"]?.string else {
      return nil
    }
    self.init(fileName: name, format: format)
  }

  static func chain(_ image: JSONValue) -> [BlockLayer] {
    var layers: [BlockLayer] = []
    var next: JSONValue? = image
    while let current = next, layers.count < countMax, let layer = BlockLayer(current) {
      layers.append(layer)
      next = current["backing-image"]
    }
    return layers
  }
}

/// `query-block`: one device that has, or can have, a medium.
public struct BlockDevice: Sendable, Hashable {
  /// The legacy `-drive` name, possibly empty.
  public let device: String
  /// The device in the machine, an object path or an id.
  public let qdev: String?
  /// nil: no medium.
  public let node: BlockNode?
  public let isRemovable: Bool

  init?(_ json: JSONValue) {
    guard let device = json["device"]?.string else { return nil }
    (self.device, qdev) = (device, json["qdev"]?.string)
    node = json["inserted"].flatMap(BlockNode.init)
    isRemovable = json["removable"]?.bool ?? false
  }
}

/// `query-dirty-rate`.
public struct DirtyRate: Sendable, Hashable {
  public enum Status: String, Sendable { case unstarted, measuring, measured, unknown }

  public let status: Status
  /// Bytes dirtied per second, in QEMU's steps of 1 MiB; nil until measured.
  public let bytesPerSecond: UInt64?
  public let startTimeSeconds: Int64
  public let mode: String

  init?(_ json: JSONValue) {
    guard let status = json["status"]?.string else { return nil }
    self.status = Status(rawValue: status) ?? .unknown
    // Negative means "not yet".
    bytesPerSecond = json["dirty-rate"]?.uint64.flatMap {
      let (bytes, overflow) = $0.multipliedReportingOverflow(by: 1 << 20)
      return overflow ? nil : bytes
    }
    startTimeSeconds = json["start-time"]?.int64 ?? 0
    mode = json["mode"]?.string ?? ""
  }
}
