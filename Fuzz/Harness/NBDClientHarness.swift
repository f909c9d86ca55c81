import Base
import NBD

/// What must hold for the client's side of NBD whatever the server sends: data only where they were
/// asked for and each byte once, one end per request, bounded lengths. The first byte: 0 to 127 begin
/// with a handshake, the others with the replies of a mode.
public enum NBDClientHarness {
  static let requests = [
    NBDRequest(.read, cookie: 1, offset: 4096, length: 8192),
    NBDRequest(.read, cookie: 2, offset: 0, length: 100),
    NBDRequest(.write, cookie: 3, offset: 0, length: 512),
    NBDRequest(.blockStatus, cookie: 4, offset: 0, length: 65536),
    NBDRequest(.flush, cookie: 5),
  ]

  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    guard let first = data.first else { return nil }
    var bytes = Array(data.dropFirst())
    guard first < 128 else {
      let mode = ReplyMode.allCases[Int(first % 3)]
      return replies(
        bytes,
        ClientSession(
          byteCount: 1 << 20, flags: .hasFlags, blockSizes: .usual, mode: mode,
          contexts: [.init(id: 7, name: NBDExtent.allocation)]))
    }
    var client = ClientHandshake(
      .init(exportName: "a", mode: ReplyMode.allCases[Int(first % 3)]))
    guard let step = try? client.receive(bytes.span.bytes) else { return nil }
    guard step.used <= bytes.count else { return "more bytes used than there are" }
    guard client.takeOutput().count <= 4096 else { return "the client says too much" }
    guard let session = step.session else { return nil }
    guard session.byteCount <= UInt64(Int64.max) else { return "a size that is none" }
    bytes.removeFirst(step.used)
    return replies(bytes, session)
  }

  private static func replies(_ data: [UInt8], _ session: ClientSession) -> String? {
    var reader = ReplyReader(session)
    for request in requests { reader.expect(request) }
    var open = Dictionary(uniqueKeysWithValues: requests.map { ($0.cookie, $0) })
    var covered: [UInt64: Set<UInt64>] = [:]
    var rest = data[...]
    while let (event, used) = try? reader.read(Array(rest).span.bytes) {
      rest = rest.dropFirst(used)
      let (cookie, isLast) = ending(event)
      guard let request = open[cookie] else { return "an answer to nothing: \(event)" }
      if let (offset, count) = range(event) {
        guard request.command == .read, offset >= request.offset, count <= request.length,
          offset - request.offset <= request.length - count
        else { return "data that nobody wanted: \(event)" }
        for place in stride(from: offset, to: offset + count, by: 1) {
          guard covered[cookie, default: []].insert(place).inserted else {
            return "twice: \(event)"
          }
        }
        if case .data = event { rest = rest.dropFirst(Int(count)) }
      }
      if case .done = event, request.command == .read,
        UInt64(covered[cookie]?.count ?? 0) != request.length
      {
        return "a read that ended early: \(event)"
      }
      if isLast { open[cookie] = nil }
    }
    return reader.pendingCount == open.count ? nil : "answers are counted wrongly"
  }

  private static func ending(_ event: ReplyReader.Event) -> (UInt64, Bool) {
    switch event {
    case .data(let cookie, _, _, let last), .zeros(let cookie, _, _, let last),
      .status(let cookie, _, _, let last), .failed(let cookie, _, _, let last):
      (cookie, last)
    case .done(let cookie): (cookie, true)
    }
  }

  private static func range(_ event: ReplyReader.Event) -> (UInt64, UInt64)? {
    switch event {
    case .data(_, let offset, let count, _): (offset, UInt64(count))
    case .zeros(_, let offset, let count, _): (offset, count)
    default: nil
    }
  }
}
