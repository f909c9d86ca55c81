public import Base

/// A page by its place.
///
/// Layout: block u16, reserved u16 (0), page u64; 12 bytes.
public struct PagePlace: Sendable, Hashable {
  public static let byteCount = 12

  /// Index into the RAM block list of the stream.
  public let block: UInt16
  /// In pages from the start of the block.
  public let page: UInt64

  public init(block: UInt16, page: UInt64) { (self.block, self.page) = (block, page) }

  init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let start = UInt64(cursor.position)
    block = try cursor.readBE()
    let reserved = try cursor.readBE(UInt16.self)
    page = try cursor.readBE()
    guard reserved == 0, page < 1 << 52 else {
      throw DecodeError(.badValue, in: "place of a page", at: start, found: page)
    }
  }

  func encode(into out: inout [UInt8]) {
    out.appendBE(block)
    out.appendBE(UInt16(0))
    out.appendBE(page)
  }

  /// Decodes a count and as many places, `1...BatchLimits.rawPagesMax`.
  static func list(decoding cursor: inout ByteCursor) throws(DecodeError) -> [PagePlace] {
    let count = Int(try cursor.readBE(UInt16.self))
    guard (1...BatchLimits.rawPagesMax).contains(count) else {
      throw DecodeError(
        .overLimit, in: "pages that are asked for", at: 8, found: UInt64(count),
        limit: UInt64(BatchLimits.rawPagesMax))
    }
    var places: [PagePlace] = []
    places.reserveCapacity(count)
    for _ in 0..<count { places.append(try PagePlace(decoding: &cursor)) }
    return places
  }

  static func encode(_ places: [PagePlace], into out: inout [UInt8]) {
    out.appendBE(UInt16(truncatingIfNeeded: places.count))  // <= rawPagesMax
    for place in places { place.encode(into: &out) }
  }
}

/// The payload of a `pageRequest` frame, destination to source: what a frame refers to is not what it should
/// be. The frame counts as applied once the pages have come. Numbered like every frame that must survive a
/// broken connection.
///
/// Layout: sequence of the frame u64, count u16, places.
public struct PageRequestFrame: Sendable, Hashable {
  public static let byteCountMax = 10 + BatchLimits.rawPagesMax * PagePlace.byteCount

  public let sequence: UInt64
  /// `1...BatchLimits.rawPagesMax`.
  public let places: [PagePlace]

  /// - Precondition: `1...BatchLimits.rawPagesMax` places.
  public init(sequence: UInt64, places: [PagePlace]) {
    precondition((1...BatchLimits.rawPagesMax).contains(places.count))
    (self.sequence, self.places) = (sequence, places)
  }

  /// Throws where the number of places isn't allowed, a place is malformed, or bytes follow.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    sequence = try cursor.readBE()
    places = try PagePlace.list(decoding: &cursor)
    try cursor.expectEnd(of: "page request")
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(sequence)
    PagePlace.encode(places, into: &out)
  }
}

/// The payload of a `pageAnswer` frame, source to destination: the pages that were asked for, as they are now,
/// which is at least as new as the frame.
///
/// Layout: sequence of the frame u64, count u16, places, 4096 bytes for each.
public struct PageAnswerFrame: Sendable, Hashable {
  public static let byteCountMax =
    10 + BatchLimits.rawPagesMax * (PagePlace.byteCount + Page.size)

  public let sequence: UInt64
  public let places: [PagePlace]
  /// As many pages as there are places.
  public let bytes: [UInt8]

  /// - Precondition: `1...BatchLimits.rawPagesMax` places, and 4096 bytes for each.
  public init(sequence: UInt64, places: [PagePlace], bytes: [UInt8]) {
    precondition((1...BatchLimits.rawPagesMax).contains(places.count))
    precondition(bytes.count == places.count * Page.size)
    (self.sequence, self.places, self.bytes) = (sequence, places, bytes)
  }

  /// Copies the pages. Throws where the payload isn't exactly as long as its number of places says.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    sequence = try cursor.readBE()
    places = try PagePlace.list(decoding: &cursor)
    var bytes: [UInt8] = []
    bytes.append(contentsOf: try cursor.take(places.count * Page.size))
    self.bytes = bytes
    try cursor.expectEnd(of: "page answer")
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(sequence)
    PagePlace.encode(places, into: &out)
    out += bytes
  }
}
