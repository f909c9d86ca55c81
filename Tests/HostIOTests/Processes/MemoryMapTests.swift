import Testing

@testable import HostIO

@Suite struct MemoryMapTests {
  private let lines = [
    "1000-3000 rw-s 00005000 00:01 316                        /memfd:ram (deleted)",
    "3000-4000 rw-s 00007000 00:01 316                        /memfd:ram (deleted)",
    "4000-5000 rw-s 00000000 00:01 316                        /memfd:ram (deleted)",
    "5000-6000 rw-s 00001000 00:01 317                        /memfd:ram (deleted)",
  ]
  private var mappings: [FileMapping] { lines.compactMap { FileMapping($0[...]) } }

  @Test func readsLines() throws {
    let mapping = try #require(FileMapping(lines[0][...]))
    #expect(mapping.start == 0x1000 && mapping.end == 0x3000 && mapping.isShared)
    #expect(mapping.fileOffset == 0x5000 && mapping.inode == 316)
    #expect(mapping.name == "/memfd:ram (deleted)")
    let anonymous = try #require(FileMapping("7f00-7f01 rw-p 00000000 00:00 0"))
    #expect(!anonymous.isShared && anonymous.name.isEmpty)
    for bad in [
      "", "x", "2-1 rw-s 0 0:0 1", "1-2 rw-s z 0:0 1", "1 rw-s 0 0:0 1", "1-2 rw 0 0:0 1",
    ] {
      #expect(FileMapping(bad[...]) == nil)
    }
  }

  @Test func findsOnePieceOfOneFile() {
    func offset(_ address: UInt64, _ length: UInt64) -> UInt64? {
      FileMapping.fileRange(of: address, length: length, in: mappings)?.offset
    }
    #expect(offset(0x1800, 0x800) == 0x5800)
    #expect(offset(0x1000, 0x3000) == 0x5000, "two lines of one mapping")
    #expect(offset(0x1000, 0x3001) == nil, "the next line jumps in the file")
    #expect(offset(0x4000, 0x2000) == nil, "the next line is another file")
    #expect(offset(0x5000, 0x2000) == nil && offset(0x6000, 1) == nil && offset(0, 1) == nil)
    #expect(offset(0x1000, 0) == nil && offset(.max, .max) == nil)
  }

  @Test func findsMemoryOfItsOwn() {
    let lines = [
      "1000-3000 rw-p 00000000 00:00 0", "3000-4000 r--p 00000000 00:00 0",
      "5000-6000 rw-p 00000000 00:00 0", "6000-7000 rw-s 00001000 00:01 317  /memfd:ram (deleted)",
    ]
    let mappings = lines.compactMap { FileMapping($0[...]) }
    func isPrivate(_ address: UInt64, _ length: UInt64) -> Bool {
      FileMapping.isPrivate(address, length: length, in: mappings)
    }
    #expect(isPrivate(0x1000, 0x3000) && isPrivate(0x1800, 1) && isPrivate(0x5000, 0x1000))
    #expect(!isPrivate(0x1000, 0x3001) && !isPrivate(0x4000, 0x1000), "a hole")
    #expect(!isPrivate(0x5000, 0x1001) && !isPrivate(0x6000, 1), "shared")
    #expect(!isPrivate(0x7000, 1) && !isPrivate(0x1000, 0) && !isPrivate(.max, .max))
  }
}
