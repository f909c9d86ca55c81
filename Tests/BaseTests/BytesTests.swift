import Base
import Testing

@Suite struct BytesTests {
  @Test func integersAreBigEndian() throws {
    var bytes: [UInt8] = []
    bytes.appendBE(UInt16(0x0102))
    bytes.appendBE(UInt64(0x0304_0506_0708_090A))
    #expect(bytes == Array(1...10))
    var cursor = ByteCursor(bytes.span.bytes)
    #expect(try cursor.readBE(UInt16.self) == 0x0102)
    #expect(try cursor.readBE(UInt64.self) == 0x0304_0506_0708_090A)
    #expect(cursor.remaining == 0)
  }

  @Test func shortReadsSayWhatIsMissing() {
    let bytes: [UInt8] = [1, 2]
    #expect(throws: DecodeError(.truncated, at: 0, found: 2, limit: 4)) {
      var cursor = ByteCursor(bytes.span.bytes)
      _ = try cursor.readBE(UInt32.self)
    }
    #expect(throws: DecodeError.self) {
      var cursor = ByteCursor(bytes.span.bytes)
      _ = try cursor.take(-1)
    }
  }

  @Test func stringsMustBeUTF8() throws {
    let bytes: [UInt8] = [0x70, 0x63, 0xFF]
    var cursor = ByteCursor(bytes.span.bytes)
    #expect(try cursor.readString(2) == "pc")
    #expect(throws: DecodeError.self) {
      var cursor = ByteCursor(bytes.span.bytes)
      _ = try cursor.readString(3)
    }
  }

  @Test func zeroTestSeesEveryByte() {
    var page = [UInt8](repeating: 0, count: Page.size)
    let fresh = page.span.bytes.isAllZero
    #expect(fresh)
    for index in [0, 1, 63, 64, 2047, 4095] {
      page[index] = 1
      let zero = page.span.bytes.isAllZero
      #expect(!zero, "byte \(index)")
      page[index] = 0
    }
    let odd: [UInt8] = [0, 0, 3]
    let oddIsZero = odd.span.bytes.isAllZero
    #expect(!oddIsZero)
  }
}

@Suite struct PageBitmapTests {
  @Test(arguments: UInt64(1)...50) func agreesWithASet(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let count = Int.random(in: 1...400, using: &random)
    var bitmap = PageBitmap(count: count)
    var model: Set<Int> = []
    for _ in 0..<200 {
      let page = Int.random(in: 0..<count, using: &random)
      if Bool.random(using: &random) {
        #expect(bitmap.insert(page) == model.insert(page).inserted, "seed \(seed)")
      } else {
        bitmap[page] = false
        model.remove(page)
      }
      let from = Int.random(in: 0..<count, using: &random)
      #expect(bitmap.first(atOrAfter: from) == model.filter { $0 >= from }.min(), "seed \(seed)")
    }
    #expect(bitmap.population == model.count)
  }

  @Test func filledHasNoBitsPastItsEnd() {
    #expect(PageBitmap(count: 70, filled: true).population == 70)
    #expect(PageBitmap(count: 64, filled: true).population == 64)
    #expect(PageBitmap(count: 0, filled: true).population == 0)
  }
}
