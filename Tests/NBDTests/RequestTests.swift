import Base
import NBD
import Testing

@Suite struct RequestTests {
  static func reader(
    _ mode: ReplyMode = .structured, without: ExportFlags = [], readOnly: Bool = false,
    minimum: UInt32 = 1, contexts: [UInt32] = [0]
  ) -> RequestReader {
    var export = NBDExport.sample(without: without, minimum: minimum)
    if readOnly { export.flags.insert(.readOnly) }
    return RequestReader(
      ServerSession(export: export, index: 0, mode: mode, contexts: contexts))
  }

  @Test func requestsHaveTheirGoldenForms() throws {
    let request = NBDRequest(
      .write, flags: .fua, cookie: 0x0102_0304_0506_0708, offset: 0x1000, length: 0x200)
    var compact: [UInt8] = []
    request.encode(.simple, into: &compact)
    #expect(
      compact == [
        0x25, 0x60, 0x95, 0x13, 0, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8,  // magic, FUA, write, cookie
        0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 2, 0,  // offset, length
      ])
    var extended: [UInt8] = []
    request.encode(.extended, into: &extended)
    #expect(
      extended == [
        0x21, 0xe4, 0x1c, 0x71, 0, 0x21, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8,
        0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 2, 0,
      ])
    for (mode, bytes) in [(ReplyMode.simple, compact), (.extended, extended)] {
      let item = try Self.reader(mode).read(bytes.span.bytes)
      #expect(item.request == .success(request) && item.payloadByteCount == 0x200)
      for length in 0..<bytes.count {
        let short = Array(bytes.prefix(length))
        #expect(throws: DecodeError.self) { try Self.reader(mode).read(short.span.bytes) }
      }
    }
  }

  private func judge(_ request: NBDRequest, _ reader: RequestReader) throws -> NBDError? {
    var bytes: [UInt8] = []
    request.encode(reader.session.mode, into: &bytes)
    let item = try reader.read(bytes.span.bytes)
    #expect(item.payloadByteCount == (request.command == .write ? request.length : 0))
    if case .failure(let refusal) = item.request { return refusal.code }
    return nil
  }

  @Test(arguments: ReplyMode.allCases) func everyMalformedRequestIsRefused(mode: ReplyMode) throws {
    let end: UInt64 = 1 << 20
    let cases: [(NBDRequest, NBDError?)] = [
      (NBDRequest(.read, offset: end - 1, length: 1), nil),
      (NBDRequest(.read, offset: end, length: 1), .invalid),
      (NBDRequest(.read, offset: end - 1, length: 2), .invalid),
      (NBDRequest(.read, offset: .max, length: 2), .invalid),
      (NBDRequest(.read, length: 0), .invalid),
      (NBDRequest(.read, length: (32 << 20) + 1), .invalid),
      (NBDRequest(.read, flags: .fua, length: 1), nil),
      (NBDRequest(.read, flags: .doNotFragment, length: 1), mode == .simple ? .invalid : nil),
      (NBDRequest(.read, flags: .noHole, length: 1), .invalid),
      (NBDRequest(.read, flags: CommandFlags(rawValue: 1 << 9), length: 1), .invalid),
      (NBDRequest(.write, offset: end - 1, length: 1), nil),
      (NBDRequest(.write, offset: end - 1, length: 2), .noSpace),
      (NBDRequest(.write, length: (32 << 20) + 1), .invalid),
      (NBDRequest(.write, flags: .requestOne, length: 1), .invalid),
      (NBDRequest(.writeZeroes, offset: end, length: 1), .noSpace),
      (NBDRequest(.writeZeroes, flags: [.noHole, .fastZero, .fua], length: end), nil),
      (NBDRequest(.trim, length: end), nil),
      (NBDRequest(.trim, flags: .fastZero, length: 1), .invalid),
      (NBDRequest(.trim, offset: 1, length: end), .invalid),
      (NBDRequest(.cache, length: end), nil),
      (NBDRequest(.flush), nil),
      (NBDRequest(.flush, length: 1), .invalid),
      (NBDRequest(.flush, offset: 1), .invalid),
      (NBDRequest(.disconnect), nil),
      (NBDRequest(.resize, length: 4096), .notSupported),
      (NBDRequest(.blockStatus, flags: .requestOne, length: end), nil),
      (NBDRequest(.blockStatus, length: end + 1), .invalid),
    ]
    for (request, expected) in cases {
      #expect(try judge(request, Self.reader(mode)) == expected, "\(request)")
    }
    #expect(
      try judge(NBDRequest(.blockStatus, length: 1), Self.reader(mode, contexts: [])) == .invalid)
  }

  @Test func whatIsNotOfferedIsRefused() throws {
    let bare = Self.reader(without: NBDExport.everything)
    for command in [NBDCommand.trim, .cache, .writeZeroes] {
      #expect(try judge(NBDRequest(command, length: 1), bare) == .invalid)
    }
    #expect(try judge(NBDRequest(.flush), bare) == .invalid)
    #expect(try judge(NBDRequest(.write, flags: .fua, length: 1), bare) == .invalid)
    let frozen = Self.reader(readOnly: true)
    for command in [NBDCommand.trim, .write, .writeZeroes] {
      #expect(try judge(NBDRequest(command, length: 1), frozen) == .notPermitted)
    }
    let coarse = Self.reader(minimum: 4096)
    #expect(try judge(NBDRequest(.read, offset: 512, length: 4096), coarse) == .invalid)
    #expect(try judge(NBDRequest(.read, offset: 4096, length: 512), coarse) == .invalid)
    #expect(try judge(NBDRequest(.read, offset: 4096, length: 8192), coarse) == nil)
  }

  @Test func unknownCommandsAreRefusedWithTheirPayload() throws {
    var bytes: [UInt8] = []
    NBDRequest(.cache, flags: .payloadLength, cookie: 9, length: 100).encode(
      .extended, into: &bytes)
    bytes[7] = 200
    let item = try Self.reader(.extended).read(bytes.span.bytes)
    #expect(item.payloadByteCount == 100 && item.cookie == 9)
    #expect(throws: RequestReader.Refusal.self) { try item.request.get() }
  }

  @Test func whatCantBeSkippedEndsTheConnection() {
    var huge: [UInt8] = []
    NBDRequest(.write, length: 1 << 40).encode(.extended, into: &huge)
    #expect(throws: DecodeError.self) { try Self.reader(.extended).read(huge.span.bytes) }
    // Compact where extended was agreed on, and the other way round.
    var compact: [UInt8] = []
    NBDRequest(.read, length: 1).encode(.simple, into: &compact)
    compact += [0, 0, 0, 0]
    #expect(throws: DecodeError.self) { try Self.reader(.extended).read(compact.span.bytes) }
    #expect(throws: DecodeError.self) { try Self.reader(.simple).read(huge.span.bytes) }
  }
}
