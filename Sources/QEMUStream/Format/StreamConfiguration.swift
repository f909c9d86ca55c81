internal import Base

/// The CONFIGURATION record: what the destination compares before anything else.
public struct StreamConfiguration: Sendable, Hashable {
  /// What may follow the machine type; QEMU sends each only where it matters.
  public enum Subsection: Sendable, Hashable {
    /// `configuration/capabilities`: those that change the stream's format.
    case capabilities([String])
    /// `configuration/target-page-bits`: log2 of the target page size.
    case targetPageBits(UInt32)
    /// `configuration/uuid`: 16 bytes, with `validate-uuid` only.
    case uuid([UInt8])

    var name: String {
      switch self {
      case .capabilities: "configuration/capabilities"
      case .targetPageBits: "configuration/target-page-bits"
      case .uuid: "configuration/uuid"
      }
    }
  }

  /// `pc-i440fx-7.2`.
  public var machineType: String
  /// In the order of the stream.
  public var subsections: [Subsection]

  public init(machineType: String, subsections: [Subsection] = []) {
    (self.machineType, self.subsections) = (machineType, subsections)
  }

  /// Capabilities the stream names; only those that change its format appear.
  public var capabilities: [String] {
    subsections.flatMap { subsection -> [String] in
      if case .capabilities(let names) = subsection { names } else { [] }
    }
  }

  /// Appends the record. Names longer than their length field (255 bytes) are cut.
  public func encode(into out: inout [UInt8]) {
    out.append(StreamFormat.Record.configuration)
    out.appendBE(UInt32(clamping: machineType.utf8.count))
    out.append(contentsOf: machineType.utf8)
    for subsection in subsections {
      out.append(StreamFormat.Record.subsection)
      out.appendCounted(subsection.name)
      out.appendBE(UInt32(1))
      switch subsection {
      case .capabilities(let names):
        out.appendBE(UInt32(clamping: names.count))
        for name in names { out.appendCounted(name) }
      case .targetPageBits(let bits): out.appendBE(bits)
      case .uuid(let bytes): out.append(contentsOf: bytes)
      }
    }
  }
}

extension StreamConfiguration.Subsection {
  /// Version of all three subsections.
  static let version: UInt32 = 1

  /// Decodes the body of the subsection `name`, or returns nil when the name is not known.
  static func decode(
    name: String, from cursor: inout ByteCursor, limits: StreamLimits
  ) throws(DecodeError) -> Self? {
    switch name {
    case "configuration/capabilities":
      let count = try cursor.readBE(UInt32.self)
      guard count <= limits.capabilityCount else {
        throw DecodeError(
          .overLimit, in: "configuration/capabilities", at: UInt64(cursor.position),
          found: UInt64(count), limit: UInt64(limits.capabilityCount))
      }
      var names: [String] = []
      for _ in 0..<count { names.append(try cursor.readCountedString()) }
      return .capabilities(names)
    case "configuration/target-page-bits": return .targetPageBits(try cursor.readBE())
    case "configuration/uuid":
      var bytes: [UInt8] = []
      bytes.append(contentsOf: try cursor.take(16))
      return .uuid(bytes)
    default: return nil
    }
  }
}

extension [UInt8] {
  /// Appends a length byte and the name, cut to 255 bytes.
  mutating func appendCounted(_ name: String) {
    let bytes = name.utf8.prefix(255)
    append(UInt8(bytes.count))
    append(contentsOf: bytes)
  }
}

extension ByteCursor {
  /// Reads a length byte and that many bytes of UTF-8.
  mutating func readCountedString() throws(DecodeError) -> String {
    try readString(Int(try readBE(UInt8.self)))
  }
}
