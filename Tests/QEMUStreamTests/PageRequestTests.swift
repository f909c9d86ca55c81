import Base
import QEMUStream
import Testing

@Suite struct PageRequestTests {
  private static let blocks = [
    RAMBlock(name: "pc.ram", length: 64 << 12), RAMBlock(name: "pc.bios", length: 4 << 12),
  ]

  /// The requests of a return path's bytes.
  private func requests(_ messages: [ReturnPathMessage]) throws -> [PageRequest] {
    var bytes: [UInt8] = []
    for message in messages { message.encode(into: &bytes) }
    var path = ReturnPathReader()
    var reader = PageRequestReader(blocks: Self.blocks)
    return try path.receive(bytes.span.bytes).compactMap { message in
      guard case .requestPages(let start, let length, let block) = message else { return nil }
      return try reader.request(start: start, length: length, block: block)
    }
  }

  @Test func theBlockNamedLastIsMeant() throws {
    let found = try requests([
      .requestPages(start: 0x1000, length: 4096, block: "pc.bios"), .pong(3),
      .requestPages(start: 0x2000, length: 8192, block: nil),
      .requestPages(start: 63 << 12, length: 4096, block: "pc.ram"),
      .requestPages(start: 0, length: 64 << 12, block: nil),
    ])
    #expect(
      found == [
        PageRequest(block: 1, firstPage: 1, count: 1),
        PageRequest(block: 1, firstPage: 2, count: 2),
        PageRequest(block: 0, firstPage: 63, count: 1),
        PageRequest(block: 0, firstPage: 0, count: 64),
      ])
  }

  @Test(
    arguments: [
      (0, 4096, nil, DecodeError.Code.outOfOrder), (0, 4096, "pc.rom", .badName),
      (1, 4096, "pc.ram", .unaligned), (0, 0, "pc.ram", .unaligned),
      (0, 4095, "pc.ram", .unaligned), (64 << 12, 4096, "pc.ram", .overLimit),
      (63 << 12, 8192, "pc.ram", .overLimit), (.max - 4095, 4096, "pc.ram", .overLimit),
      (0, .max - 4095, "pc.ram", .overLimit), (4 << 12, 4096, "pc.bios", .overLimit),
    ] as [(UInt64, UInt32, String?, DecodeError.Code)])
  func requestsForWhatIsNotThereAreRefused(
    start: UInt64, length: UInt32, block: String?, code: DecodeError.Code
  ) {
    let error = #expect(throws: DecodeError.self) {
      try requests([.requestPages(start: start, length: length, block: block)])
    }
    #expect(error?.code == code)
  }

  /// A name that is not known doesn't become the block named last.
  @Test func aRefusedNameIsNotRemembered() throws {
    var reader = PageRequestReader(blocks: Self.blocks)
    _ = try reader.request(start: 0, length: 4096, block: "pc.bios")
    _ = try? reader.request(start: 0, length: 4096, block: "none")
    let request = try reader.request(start: 0, length: 4096, block: nil)
    #expect(request.block == 1)
  }
}
