import FoundationEssentials

/// One device of the stream's description.
struct DeviceDescription: Codable, Equatable {
  var name: String
  var instance: Int64
  var version: Int64?
  /// Bytes of its section in the stream, from type byte to footer.
  var bytes: UInt64

  /// The devices in QEMU's description, or nil where it is not what QEMU writes. The caller has
  /// had the syntax and its depth checked (`StreamReader` ends on nothing else).
  static func devices(ofJSON json: [UInt8]) -> [DeviceDescription]? {
    guard let document = try? JSONDecoder().decode(Document.self, from: Data(json)) else {
      return nil
    }
    return document.devices.map { device in
      let head = 1 + 4 + 1 + UInt64(device.name.utf8.count) + 4 + 4
      let body = sum(device.fields, device.subsections)
      return DeviceDescription(
        name: device.name, instance: device.instance_id ?? 0, version: device.version,
        bytes: add(add(head, body), 5))
    }
  }

  private struct Document: Decodable {
    var devices: [Device]
  }
  private struct Device: Decodable {
    var name: String
    var instance_id: Int64?
    var version: Int64?
    var fields: [Field]?
    var subsections: [Subsection]?
  }
  private struct Field: Decodable {
    /// Bytes of one element, with all that is inside it.
    var size: UInt64?
    /// Elements that are alike are described once.
    var array_len: UInt64?
  }
  private struct Subsection: Decodable {
    var vmsd_name: String
    var fields: [Field]?
    var subsections: [Subsection]?
  }

  private static func sum(_ fields: [Field]?, _ subsections: [Subsection]?) -> UInt64 {
    var total: UInt64 = 0
    for field in fields ?? [] {
      let (size, overflow) = (field.size ?? 0).multipliedReportingOverflow(by: field.array_len ?? 1)
      total = add(total, overflow ? .max : size)
    }
    for part in subsections ?? [] {
      // Type byte, length byte, name, version.
      total = add(total, 1 + 1 + UInt64(part.vmsd_name.utf8.count) + 4)
      total = add(total, sum(part.fields, part.subsections))
    }
    return total
  }

  /// Saturates: sizes come from the stream.
  private static func add(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let (sum, overflow) = a.addingReportingOverflow(b)
    return overflow ? .max : sum
  }
}
