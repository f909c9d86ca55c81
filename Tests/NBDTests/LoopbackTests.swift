import Base
import NBD
import Testing

/// Client and server against each other, over seeds: what a client reads is what the server has,
/// whatever was agreed on, in whatever order and pieces it comes.
@Suite struct LoopbackTests {
  /// Both handshakes to their ends, bytes arriving in random pieces.
  static func shakeHands(
    _ wish: ClientHandshake.Wish, _ exports: [NBDExport], _ random: inout SplitMix64
  ) throws -> (ClientSession, ServerSession) {
    var (client, server) = (
      ClientHandshake(wish), ServerHandshake(exports: exports, security: .none)
    )
    var (toClient, toServer): ([UInt8], [UInt8]) = ([], [])
    var (atClient, atServer): ([UInt8], [UInt8]) = ([], [])
    var sessions: (ClientSession?, ServerSession?)
    for _ in 0..<10_000 {
      toClient += server.takeOutput()
      toServer += client.takeOutput()
      let counts = (random.next() % 30, random.next() % 30)
      let first = toClient.prefix(Int(counts.0))
      toClient.removeFirst(first.count)
      atClient += first
      let clientStep = try client.receive(atClient.span.bytes)
      atClient.removeFirst(clientStep.used)
      sessions.0 = sessions.0 ?? clientStep.session
      let second = toServer.prefix(Int(counts.1))
      toServer.removeFirst(second.count)
      atServer += second
      let serverStep = try server.receive(atServer.span.bytes)
      atServer.removeFirst(serverStep.used)
      if case .transmission(let session) = serverStep.outcome { sessions.1 = session }
      if let ours = sessions.0, let theirs = sessions.1 { return (ours, theirs) }
    }
    throw Missing()
  }

  @Test(arguments: UInt64(1)...60) func handshakesAgree(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let mode = ReplyMode.allCases.randomElement(using: &random)!
    let contexts = [[], [NBDExtent.allocation], [NBDExtent.allocation, "godwit:test", "x:y"]]
    let wish = ClientHandshake.Wish(
      exportName: ["a", "b", ""].randomElement(using: &random)!, mode: mode,
      contexts: contexts.randomElement(using: &random)!)
    let (client, server) = try Self.shakeHands(
      wish, [.sample("a"), .sample("b", byteCount: 77 << 20, minimum: 4096)], &random)
    #expect(client.mode == mode && server.mode == mode)
    #expect(client.byteCount == server.export.byteCount && client.flags == server.export.flags)
    #expect(client.blockSizes == server.export.blockSizes)
    #expect(client.description == "a disk")
    #expect(client.contexts.map(\.id) == server.contexts)
    let known = wish.contexts.filter { $0 != "x:y" }
    #expect(client.contexts.map(\.name) == (mode == .simple ? [] : known))
  }

  @Test func tlsComesFirst() throws {
    var wish = ClientHandshake.Wish(exportName: "disk", contexts: [])
    wish.startsTLS = true
    func talk(_ client: inout ClientHandshake, _ server: inout ServerHandshake) throws -> (
      ClientSession?, ServerHandshake.Outcome?
    ) {
      var (ours, theirs): (ClientSession?, ServerHandshake.Outcome?)
      for _ in 0..<10 {
        let toServer = client.takeOutput()
        if !toServer.isEmpty {
          let step = try server.receive(toServer.span.bytes)
          #expect(step.used == toServer.count)
          theirs = step.outcome
        }
        let toClient = server.takeOutput()
        if !toClient.isEmpty { ours = try client.receive(toClient.span.bytes).session }
      }
      return (ours, theirs)
    }
    var client = ClientHandshake(wish)
    var server = ServerHandshake(exports: [.sample()], security: .required)
    let plain = try talk(&client, &server)
    #expect(plain.0 == nil && plain.1 == .startTLS && client.isReadyForTLS)
    (client, server) = (client.afterTLS(), server.afterTLS())
    #expect(!client.isReadyForTLS)
    let secure = try talk(&client, &server)
    #expect(secure.0?.mode == .extended)
    // A server without TLS says no, and nothing is said in plain instead.
    (client, server) = (
      ClientHandshake(wish), ServerHandshake(exports: [.sample()], security: .none)
    )
    #expect(throws: ClientError.self) { try talk(&client, &server) }
  }

  @Test func refusalsReachTheClient() throws {
    var random = SplitMix64(seed: 1)
    #expect {
      try Self.shakeHands(.init(exportName: "nothing"), [.sample()], &random)
    } throws: { error in
      guard case .refused(.go, .unknown, let message) = error as? ClientError else { return false }
      return message == "no export 'nothing'"
    }
  }

  @Test(arguments: UInt64(1)...90) func readsComeBackWhole(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    var world = try LoopbackWorld(ReplyMode.allCases[Int(seed % 3)], &random)
    for _ in 0..<20 { world.ask(&random) }
    world.answerAll(&random)
    try world.takeAll(&random)
    #expect(world.problems.isEmpty, "\(world.problems)")
    #expect(world.openCount == 0)
  }
}

/// A disk of known bytes, a server that answers in any order and pieces, and a client.
struct LoopbackWorld {
  let server: RequestReader
  var client: ReplyReader
  let writer: ReplyWriter
  /// Two contexts with these extents, which cover the disk.
  let extents: [[NBDExtent]]
  var asked: [NBDRequest] = []
  var wire: [UInt8] = []
  var received: [UInt64: [UInt8?]] = [:]
  var problems: [String] = []
  var told: [UInt64: Int] = [:]
  var openCount: Int { client.pendingCount }
  static let byteCount: UInt64 = 1 << 20

  init(_ mode: ReplyMode, _ random: inout SplitMix64) throws {
    let wish = ClientHandshake.Wish(
      exportName: "disk", mode: mode, contexts: [NBDExtent.allocation, "godwit:test"])
    let (ours, theirs) = try LoopbackTests.shakeHands(wish, [.sample()], &random)
    (server, client, writer) = (RequestReader(theirs), ReplyReader(ours), ReplyWriter(mode))
    var made: [[NBDExtent]] = []
    for context in 0..<2 {
      var (list, left): ([NBDExtent], UInt64) = ([], Self.byteCount)
      while left > 0 {
        let length = min(left, random.next() % 90_000 + 1)
        NBDExtent.append(
          NBDExtent(length: length, flags: random.next() % 4 + UInt64(context)), to: &list)
        left -= length
      }
      made.append(list)
    }
    extents = made
  }

  static func byte(_ place: UInt64) -> UInt8 {
    UInt8(truncatingIfNeeded: place &* 131 ^ place >> 9)
  }
  /// Every third page is zeros.
  static func isZero(_ place: UInt64) -> Bool { place / 4096 % 3 == 0 }
  static func content(_ place: UInt64) -> UInt8 { isZero(place) ? 0 : byte(place) }

  mutating func ask(_ random: inout SplitMix64) {
    let offset = random.next() % Self.byteCount
    let length = min(Self.byteCount - offset, random.next() % 20_000 + 1)
    let commands: [NBDCommand] =
      server.session.mode == .simple
      ? [.read, .write, .trim] : [.read, .read, .write, .blockStatus, .cache]
    var request = NBDRequest(
      commands.randomElement(using: &random)!, cookie: random.next(), offset: offset, length: length
    )
    if request.command == .blockStatus, random.next() % 2 == 0 { request.flags = .requestOne }
    if random.next() % 8 == 0 { request.offset = Self.byteCount }  // will be refused
    client.expect(request)
    var bytes: [UInt8] = []
    request.encode(server.session.mode, into: &bytes)
    guard let item = try? server.read(bytes.span.bytes) else {
      return problems.append("not read: \(request)")
    }
    switch item.request {
    case .success(let read):
      if read != request { problems.append("\(read) was \(request)") }
      asked.append(read)
    case .failure(let refusal):
      if request.offset < Self.byteCount { problems.append("refused: \(request)") }
      writer.failure(
        cookie: item.cookie, offset: item.offset, refusal.code, refusal.message, into: &wire)
    }
    received[request.cookie] = [UInt8?](repeating: nil, count: Int(length))
  }

  /// Answers what was asked in a random order, reads in random pieces.
  mutating func answerAll(_ random: inout SplitMix64) {
    for request in asked.shuffled(using: &random) {
      if random.next() % 10 == 0, request.command != .read || writer.mode > .simple {
        writer.failure(
          cookie: request.cookie, offset: request.offset, .inputOutput, "broken",
          at: request.command == .read ? request.offset : nil, into: &wire)
        told[request.cookie] = -1
        continue
      }
      switch request.command {
      case .read: read(request, &random)
      case .blockStatus:
        for (place, id) in server.session.contexts.enumerated() {
          writer.status(
            request, context: id, part(extents[Int(id)], request),
            last: place + 1 == server.session.contexts.count, into: &wire)
        }
      default: writer.success(request, into: &wire)
      }
    }
  }

  private mutating func read(_ request: NBDRequest, _ random: inout SplitMix64) {
    var pieces: [(UInt64, Int)] = []
    var place = request.offset
    while place < request.offset + request.length {
      let left = Int(request.offset + request.length - place)
      let toPage = Int(4096 - place % 4096)
      let count = writer.mode == .simple ? left : min(left, toPage)
      pieces.append((place, count))
      place += UInt64(count)
    }
    pieces.shuffle(using: &random)
    for (index, (offset, count)) in pieces.enumerated() {
      let isLast = index + 1 == pieces.count
      if writer.mode > .simple, Self.isZero(offset) {
        writer.hole(request, at: offset, count: UInt32(count), last: isLast, into: &wire)
      } else {
        writer.data(request, at: offset, count: count, last: isLast, into: &wire)
        for step in 0..<UInt64(count) { wire.append(Self.content(offset + step)) }
      }
    }
  }

  private func part(_ extents: [NBDExtent], _ request: NBDRequest) -> [NBDExtent] {
    var (start, found): (UInt64, [NBDExtent]) = (0, [])
    for extent in extents {
      let end = start + extent.length
      let (low, high) = (max(start, request.offset), min(end, request.offset + request.length))
      if low < high { found.append(NBDExtent(length: high - low, flags: extent.flags)) }
      start = end
    }
    return found
  }

  /// Feeds the wire to the client in random pieces.
  mutating func takeAll(_ random: inout SplitMix64) throws {
    let requests = Dictionary(uniqueKeysWithValues: asked.map { ($0.cookie, $0) })
    var (held, sent): ([UInt8], Int) = ([], 0)
    while sent < wire.count || !held.isEmpty {
      if let (event, used) = try client.read(held.span.bytes) {
        held.removeFirst(used)
        take(event, requests, &held, &sent)
        continue
      }
      guard sent < wire.count else { return problems.append("bytes are left over") }
      let count = min(Int(random.next() % 3000) + 1, wire.count - sent)
      held += wire[sent..<(sent + count)]
      sent += count
    }
  }

  private mutating func take(
    _ event: ReplyReader.Event, _ requests: [UInt64: NBDRequest], _ held: inout [UInt8],
    _ sent: inout Int
  ) {
    switch event {
    case .data(let cookie, let offset, let count, let last):
      while held.count < count {
        held.append(wire[sent])
        sent += 1
      }
      store(cookie, offset, Array(held.prefix(count)), requests, last)
      held.removeFirst(count)
    case .zeros(let cookie, let offset, let count, let last):
      store(cookie, offset, [UInt8](repeating: 0, count: Int(count)), requests, last)
    case .status(let cookie, let context, let extents, _):
      guard let request = requests[cookie] else { return problems.append("status of nothing") }
      let all = part(self.extents[Int(context)], request)
      if extents != (request.flags.contains(.requestOne) ? Array(all.prefix(1)) : all) {
        problems.append("status differs: \(request)")
      }
    case .failed(let cookie, let code, let message, _):
      if told[cookie] == -1, code != .inputOutput || (writer.mode > .simple && message != "broken")
      {
        problems.append("another error: \(code) \(message)")
      }
    case .done(let cookie):
      if requests[cookie]?.command == .read { problems.append("a read without data") }
    }
  }

  private mutating func store(
    _ cookie: UInt64, _ offset: UInt64, _ bytes: [UInt8], _ requests: [UInt64: NBDRequest],
    _ last: Bool
  ) {
    guard let request = requests[cookie] else { return problems.append("data of nothing") }
    for (step, byte) in bytes.enumerated() {
      received[cookie]![Int(offset - request.offset) + step] = byte
    }
    guard last else { return }
    for (step, byte) in received[cookie]!.enumerated()
    where byte != Self.content(request.offset + UInt64(step)) {
      return problems.append("byte \(step) of \(request) is \(String(describing: byte))")
    }
  }
}
