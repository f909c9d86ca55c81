public import Base

/// Frames of a pull: the guest runs at the destination and lacks pages that the source still holds.
public enum PullLimits {
  /// Requests in one frame.
  public static let requestsMax = 256
  /// Pages in one request; each costs its reader a step.
  public static let requestPagesMax: UInt32 = 1024
  /// Runs in one frame of invalid pages: 1 MiB.
  public static let invalidRunsMax = 65_536
}

/// Pages that the destination asks for, of one block, one after the other.
///
/// Layout: block u16, kind u8, reserved u8 (0), count u32, first page u64; 16 bytes.
public struct PullRequest: Sendable, Hashable {
  /// What the source is to do with the request, and how soon.
  public enum Kind: UInt8, Sendable, CaseIterable {
    /// Nobody waits for them yet.
    case ahead = 0
    /// A processor of the guest waits for them.
    case urgent = 1
    /// What proves them (`PullIdentities`), in place of the pages: the destination may have them. Asked only of a source
    /// that has said that it knows.
    case identities = 2
  }

  public static let byteCount = 16

  /// Index into the RAM block list of the stream.
  public let block: UInt16
  public let kind: Kind
  /// `1...PullLimits.requestPagesMax`.
  public let count: UInt32
  /// In pages from the start of the block.
  public let firstPage: UInt64

  /// - Precondition: `count` is in `1...PullLimits.requestPagesMax`.
  public init(block: UInt16, kind: Kind, firstPage: UInt64, count: UInt32) {
    precondition((1...PullLimits.requestPagesMax).contains(count))
    (self.block, self.kind) = (block, kind)
    (self.firstPage, self.count) = (firstPage, count)
  }

  init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let start = UInt64(cursor.position)
    block = try cursor.readBE()
    let rawKind = try cursor.readBE(UInt8.self)
    let reserved = try cursor.readBE(UInt8.self)
    guard let kind = Kind(rawValue: rawKind), reserved == 0 else {
      throw DecodeError(
        .badValue, in: "kind of a pull request", at: start + 2,
        found: UInt64(rawKind) << 8 | UInt64(reserved))
    }
    self.kind = kind
    count = try cursor.readBE()
    firstPage = try cursor.readBE()
    guard (1...PullLimits.requestPagesMax).contains(count), firstPage < 1 << 52 else {
      throw DecodeError(
        .overLimit, in: "pull request", at: start + 4, found: UInt64(count),
        limit: UInt64(PullLimits.requestPagesMax))
    }
  }

  func encode(into out: inout [UInt8]) {
    out.appendBE(block)
    out.append(kind.rawValue)
    out.append(0)
    out.appendBE(count)
    out.appendBE(firstPage)
  }
}

/// The payload of a `pullRequest` frame, destination to source, in the order in which the pages are
/// wanted. Numbered like every frame that must survive a broken connection.
///
/// Layout: count u16, requests; nothing else.
public struct PullRequests: Sendable, Hashable {
  public static let byteCountMax = 2 + PullLimits.requestsMax * PullRequest.byteCount

  /// `1...PullLimits.requestsMax`.
  public let requests: [PullRequest]

  /// - Precondition: `1...PullLimits.requestsMax` requests.
  public init(_ requests: [PullRequest]) {
    precondition((1...PullLimits.requestsMax).contains(requests.count))
    self.requests = requests
  }

  /// Throws where the number of requests isn't allowed, one of them is malformed, or bytes follow.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let count = Int(try cursor.readBE(UInt16.self))
    guard (1...PullLimits.requestsMax).contains(count) else {
      throw DecodeError(
        .overLimit, in: "pull requests", at: 0, found: UInt64(count),
        limit: UInt64(PullLimits.requestsMax))
    }
    var requests: [PullRequest] = []
    requests.reserveCapacity(count)
    for _ in 0..<count { requests.append(try PullRequest(decoding: &cursor)) }
    try cursor.expectEnd(of: "pull requests")
    self.requests = requests
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(UInt16(truncatingIfNeeded: requests.count))  // <= requestsMax
    for request in requests { request.encode(into: &out) }
  }
}

/// The payload of a `pullDone` frame, destination to source: every page is in place, and the source may
/// let go of the guest's memory.
///
/// Layout: pages placed u64, faults u64, pages compared u64, of these differing u64. Where pages were made at the
/// destination, behind that: of a snapshot u64, of images u64, and those of all that were waited for u64; where some were
/// stored elsewhere, behind that: those u64.
public struct PullDone: Sendable, Hashable {
  public static let byteCount = 32
  public static let byteCountMax = 64
  /// Pages that were placed once QEMU had the devices' state.
  public var placedPages: UInt64
  /// Of these, pages that the guest had to wait for.
  public var faultPages: UInt64
  /// Pages that an audit compared as they came, and those that differed.
  public var comparedPages, differingPages: UInt64
  /// Of the pages placed, those that never crossed the network: made of a snapshot, of blocks of images.
  public var snapshotPages: UInt64 = 0
  public var diskPages: UInt64 = 0
  /// Made of stored pages that lay at other places, or in other snapshots.
  public var vaultPages: UInt64 = 0
  /// Of these three, pages that the guest had to wait for.
  public var localFaultPages: UInt64 = 0

  public init(
    placedPages: UInt64, faultPages: UInt64 = 0, comparedPages: UInt64 = 0,
    differingPages: UInt64 = 0
  ) {
    (self.placedPages, self.faultPages) = (placedPages, faultPages)
    (self.comparedPages, self.differingPages) = (comparedPages, differingPages)
  }

  private var wasLocal: Bool {
    snapshotPages > 0 || diskPages > 0 || localFaultPages > 0 || vaultPages > 0
  }

  /// Takes all three lengths. Throws where a longer form says nothing that the shorter couldn't:
  /// each content has one encoding.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    placedPages = try cursor.readBE()
    faultPages = try cursor.readBE()
    comparedPages = try cursor.readBE()
    differingPages = try cursor.readBE()
    guard cursor.remaining > 0 else { return }
    snapshotPages = try cursor.readBE()
    diskPages = try cursor.readBE()
    localFaultPages = try cursor.readBE()
    let isLonger = cursor.remaining > 0
    if isLonger { vaultPages = try cursor.readBE() }
    guard wasLocal, vaultPages > 0 || !isLonger else {
      throw DecodeError(.badValue, in: "pages made at the destination", at: 32, found: 0)
    }
    try cursor.expectEnd(of: "pull done")
  }

  /// Appends the shortest form that holds the counts: an agent that knows nothing of local pages
  /// reads 32 bytes.
  public func encode(into out: inout [UInt8]) {
    out.appendBE(placedPages)
    out.appendBE(faultPages)
    out.appendBE(comparedPages)
    out.appendBE(differingPages)
    // An agent that was not told of identities takes no more.
    guard wasLocal else { return }
    out.appendBE(snapshotPages)
    out.appendBE(diskPages)
    out.appendBE(localFaultPages)
    if vaultPages > 0 { out.appendBE(vaultPages) }
  }
}

extension ByteCursor {
  /// Refuses bytes behind what was decoded.
  func expectEnd(of what: StaticString) throws(DecodeError) {
    guard remaining == 0 else {
      throw DecodeError(
        .overLimit, in: what, at: UInt64(position), found: UInt64(position + remaining),
        limit: UInt64(position))
    }
  }
}
