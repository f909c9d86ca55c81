import QEMUStream

/// What `stream dump --json` prints. What a stream does not say is left out.
struct StreamSummary: Codable, Equatable {
  struct Block: Codable, Equatable {
    var name: String
    /// Bytes.
    var length: UInt64
    var pageSize: UInt64?
    var address: UInt64?
    /// Records, so a page sent twice counts twice.
    var zeroPages: UInt64 = 0
    var rawPages: UInt64 = 0

    init(block: RAMBlock) {
      (name, length, pageSize, address) = (block.name, block.length, block.pageSize, block.address)
    }
  }

  struct Sections: Codable, Equatable {
    var count: UInt64 = 0
    /// From type byte to footer.
    var bytes: UInt64 = 0
    var smallest: UInt64?
    var largest: UInt64?

    mutating func add(_ size: UInt64) {
      (count, bytes) = (count + 1, bytes + size)
      (smallest, largest) = (min(smallest ?? size, size), max(largest ?? size, size))
    }
  }

  struct RAMSections: Codable, Equatable {
    var start = Sections(), part = Sections(), end = Sections()
  }

  struct Handover: Codable, Equatable {
    var reason: String
    /// Bytes from the start of the stream.
    var offset: UInt64
  }

  /// Bytes understood or passed on.
  var bytes: UInt64 = 0
  /// Whether the end was read and everything before it understood.
  var isComplete = false
  var error: String?
  /// `precopy` or `postcopy`.
  var order = "precopy"
  var machineType: String?
  var capabilities: [String] = []
  var commandCount = 0
  /// The first ones.
  var commands: [String] = []
  var ramSectionID: UInt32?
  var blocks: [Block] = []
  var ramSections = RAMSections()
  var multifdFlushes: UInt64 = 0
  /// Nested stream of a post-copy; absent without one.
  var packagedBytes: UInt64?
  var deviceStateBytes: UInt64?
  var descriptionBytes: UInt64?
  /// From the description; absent without one.
  var devices: [DeviceDescription]?
  var handedOver: Handover?
  /// Bytes passed on from the hand-over on.
  var opaqueBytes: UInt64?
}
