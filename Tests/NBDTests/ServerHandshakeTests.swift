import Base
import NBD
import Testing

@Suite struct ServerHandshakeTests {
  @Test func greetingHasItsGoldenForm() {
    var server = ServerHandshake(exports: [], security: .none)
    #expect(server.takeOutput() == Array("NBDMAGICIHAVEOPT".utf8) + [0, 3])
  }

  @Test func goTellsTheExportAndItsBlockSizes() throws {
    var client = RawClient()
    client.option(7, RawClient.info("disk", [1, 2, 3]))
    let (answers, outcome, _) = try handshake(client.bytes)
    #expect(answers.map(\.reply) == [.info, .info, .info, .info, .ack])
    // kind, size, flags: those of a client without structured replies, so no DF.
    #expect(
      answers[0].data == [
        0, 0,  // export
        0, 0, 0, 0, 0, 0x10, 0, 0,  // 1 MiB
        0b1101, 0b0110_1101,  // fast zero, cache, multi; write zeroes, trim, FUA, flush, flags
      ])
    #expect(answers[1].data == [0, 3, 0, 0, 0, 1, 0, 0, 0x10, 0, 2, 0, 0, 0])
    #expect(answers[2].data == [0, 1] + "disk".utf8)
    #expect(answers[3].data == [0, 2] + "a disk".utf8)
    guard case .transmission(let session) = outcome else { throw Missing() }
    #expect(session.mode == .simple && session.contexts.isEmpty)
  }

  @Test(arguments: [true, false]) func exportNameIsAnsweredWithoutAHeader(zeroes: Bool) throws {
    var client = RawClient(flags: zeroes ? 1 : 3)
    client.option(1, Array("disk".utf8))
    var server = ServerHandshake(exports: [.sample()], security: .none)
    let outcome = try server.receive(client.bytes.span.bytes).outcome
    let answer = server.takeOutput().dropFirst(18)
    #expect(answer.count == (zeroes ? 134 : 10))
    #expect(answer.prefix(8) == [0, 0, 0, 0, 0, 0x10, 0, 0])
    guard case .transmission = outcome else { throw Missing() }
  }

  @Test func theEmptyNameIsTheFirstExportUnlessOneHasIt() throws {
    var client = RawClient()
    client.option(7, RawClient.info(""))
    func index(_ exports: [NBDExport]) throws -> Int? {
      guard case .transmission(let session) = try handshake(client.bytes, exports: exports).outcome
      else { return nil }
      return session.index
    }
    #expect(try index([.sample("a"), .sample("b")]) == 0)
    #expect(try index([.sample("a"), .sample("")]) == 1)
    #expect(try index([]) == nil)
  }

  @Test func listNamesAllExports() throws {
    var client = RawClient()
    client.option(3)
    client.option(3, [1])
    let (answers, _, _) = try handshake(client.bytes, exports: [.sample("a"), .sample("bc")])
    #expect(answers.map(\.reply) == [.server, .server, .ack, .invalid])
    #expect(answers[1].data == [0, 0, 0, 2] + "bc".utf8)
  }

  @Test func modesGoUpOnly() throws {
    var client = RawClient()
    for option in [8, 8, 11, 11, 8] as [UInt32] { client.option(option) }
    client.option(8, [0])
    client.option(7, RawClient.info("disk"))
    let (answers, outcome, _) = try handshake(client.bytes)
    #expect(
      answers.prefix(6).map(\.reply) == [
        .ack, .invalid, .ack, .invalid, .extendedHeadersRequired, .invalid,
      ])
    guard case .transmission(let session) = outcome else { throw Missing() }
    #expect(session.mode == .extended)
    #expect(session.export.flags.contains(.sendDoNotFragment))
  }

  @Test func contextsAreListedAndSetForOneExport() throws {
    var client = RawClient()
    client.option(9, RawClient.queries("disk", []))  // before structured replies
    client.option(8)
    client.option(9, RawClient.queries("disk", []))
    client.option(9, RawClient.queries("disk", ["base:"]))
    client.option(9, RawClient.queries("disk", ["qemu:"]))
    client.option(9, RawClient.queries("none", []))
    client.option(10, RawClient.queries("disk", ["x:y", "godwit:test"]))
    let bytes = client.bytes
    client.option(7, RawClient.info("disk"))
    let (answers, outcome, _) = try handshake(client.bytes, exports: [.sample(), .sample("b")])
    let replies = answers.prefix(10).map(\.reply)
    #expect(
      replies == [
        .invalid, .ack, .metaContext, .metaContext, .ack, .metaContext, .ack, .ack, .unknown,
        .metaContext,
      ])
    #expect(answers[9].data == [0, 0, 0, 1] + "godwit:test".utf8)
    guard case .transmission(let session) = outcome else { throw Missing() }
    #expect(session.contexts == [1])

    // Another export than the contexts were set for.
    client.bytes = bytes
    client.option(7, RawClient.info("b"))
    guard
      case .transmission(let other) = try handshake(
        client.bytes, exports: [.sample(), .sample("b")]
      ).outcome
    else { throw Missing() }
    #expect(other.contexts.isEmpty)
  }

  @Test func aMalformedSetForgetsWhatWasSet() throws {
    var client = RawClient()
    client.option(8)
    client.option(10, RawClient.queries("disk", ["base:allocation"]))
    client.option(10, [1, 2, 3])
    client.option(7, RawClient.info("disk"))
    guard case .transmission(let session) = try handshake(client.bytes).outcome else {
      throw Missing()
    }
    #expect(session.contexts.isEmpty)
  }

  @Test func tlsComesFirstWhereItIsRequired() throws {
    var client = RawClient()
    for option in [3, 6, 7, 8, 9, 10, 11, 77] as [UInt32] { client.option(option) }
    let before = client.bytes.count
    client.option(5)
    client.bytes += [1, 2, 3]
    let (answers, outcome, used) = try handshake(client.bytes, security: .required)
    #expect(answers.dropLast().allSatisfy { $0.reply == .tlsRequired })
    #expect(answers.last?.reply == .ack && outcome == .startTLS)
    // What comes behind STARTTLS is left for the driver to see.
    #expect(used == before + 16)

    var name = RawClient()
    name.option(1, Array("disk".utf8))
    #expect(throws: DecodeError.self) { try handshake(name.bytes, security: .required) }
  }

  @Test func tlsForgetsWhatWasAgreedOn() throws {
    var client = RawClient()
    client.option(8)
    client.option(5)
    let (answers, _, _) = try handshake(client.bytes)
    #expect(answers.map(\.reply) == [.ack, .policy])

    var server = ServerHandshake(exports: [.sample()], security: .required)
    var start = RawClient()
    start.option(5)
    _ = try server.receive(start.bytes.span.bytes)
    _ = server.takeOutput()
    server = server.afterTLS()
    var inner = RawClient()
    inner.bytes = []
    inner.option(5)
    inner.option(7, RawClient.info("disk"))
    let outcome = try server.receive(inner.bytes.span.bytes).outcome
    let after = try RawAnswer.all(server.takeOutput(), greeted: false)
    #expect(after.map(\.reply) == [.invalid, .info, .info, .ack])
    guard case .transmission = outcome else { throw Missing() }
  }

  @Test func largeBlocksNeedAClientThatKnowsThem() throws {
    var client = RawClient()
    client.option(7, RawClient.info("disk"))
    client.option(6, RawClient.info("disk", [3]))
    client.option(7, RawClient.info("disk"))
    let (answers, outcome, _) = try handshake(client.bytes, exports: [.sample(minimum: 4096)])
    #expect(answers.first?.reply == .blockSizeRequired)
    guard case .transmission = outcome else { throw Missing() }

    var old = RawClient()
    old.option(1, Array("disk".utf8))
    #expect(throws: DecodeError.self) {
      try handshake(old.bytes, exports: [.sample(minimum: 4096)])
    }
  }

  @Test func everyMalformedOptionIsAnswered() throws {
    var long = RawClient.text("disk")
    long[3] = 200
    let malformed: [(UInt32, [UInt8], OptionReply)] = [
      (7, [], .invalid), (7, [0, 0, 0, 4], .invalid), (7, long + [0, 0], .invalid),
      (7, RawClient.info("disk") + [0], .invalid),
      (7, RawClient.info("disk", [3]).dropLast(), .invalid),
      (6, RawClient.info("nothing"), .unknown),
      (7, [0, 0, 0, 1, 0xFF, 0, 0], .invalid),
      (7, RawClient.info(String(repeating: "x", count: 4097)), .invalid),
      (4, [], .unsupported), (0, [], .unsupported), (0xFFFF_FFFF, [1], .unsupported),
      (10, [0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF], .invalid),
      (7, [UInt8](repeating: 0, count: (64 << 10) + 1), .tooBig),
    ]
    for (option, data, reply) in malformed {
      var client = RawClient()
      client.option(11)
      client.option(option, data)
      client.option(2)
      let (answers, outcome, _) = try handshake(client.bytes)
      #expect(answers.map(\.reply) == [.ack, reply, .ack], "option \(option)")
      #expect(outcome == .aborted)
    }
  }

  @Test func whatHasNoAnswerEndsTheConnection() {
    var magic = RawClient()
    magic.option(3)
    magic.bytes[4] = 0
    var name = RawClient()
    name.option(1, Array("nothing".utf8))
    var many = RawClient()
    for _ in 0...NBDLimits.optionsMax { many.option(3) }
    for bytes in [magic.bytes, name.bytes, many.bytes, RawClient(flags: 4).bytes, [0, 0, 0, 2]] {
      #expect(throws: DecodeError.self) { try handshake(bytes) }
    }
  }

  /// The same answers and the same end, however the bytes arrive.
  @Test func everySplit() throws {
    var client = RawClient()
    client.option(77, [1, 2, 3])
    client.option(11)
    client.option(3)
    client.option(10, RawClient.queries("disk", ["base:allocation"]))
    client.option(7, RawClient.info("disk", [3]))
    let whole = try handshake(client.bytes)
    for split in 0...client.bytes.count {
      var server = ServerHandshake(exports: [.sample()], security: .none)
      var held: [UInt8] = []
      var outcome: ServerHandshake.Outcome?
      for part in [client.bytes[..<split], client.bytes[split...]] {
        held += part
        let step = try server.receive(held.span.bytes)
        held.removeFirst(step.used)
        outcome = outcome ?? step.outcome
      }
      #expect(held.isEmpty && outcome == whole.outcome, "split at \(split)")
      #expect(try RawAnswer.all(server.takeOutput()) == whole.answers, "split at \(split)")
    }
  }
}

struct Missing: Error {}
