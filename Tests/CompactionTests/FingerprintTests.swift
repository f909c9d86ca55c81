import Base
import Compaction
import Testing

@Suite struct FingerprintTests {
  @Test func oneBitMakesAnotherFingerprint() {
    var page = [UInt8](repeating: 0, count: Page.size)
    var seen = [PageFingerprint(of: page.span.bytes)]
    for index in [0, 1, 2047, 4095] {
      page[index] ^= 1
      seen.append(PageFingerprint(of: page.span.bytes))
      page[index] ^= 1
    }
    #expect(Set(seen).count == 5)
    #expect(PageFingerprint(of: page.span.bytes) == seen[0])
  }

  @Test func encodesAsSixteenBytes() {
    let page = [UInt8](repeating: 3, count: Page.size)
    let fingerprint = PageFingerprint(of: page.span.bytes)
    var bytes: [UInt8] = []
    fingerprint.encode(into: &bytes)
    #expect(bytes.count == PageFingerprint.byteCount)
    var cursor = ByteCursor(bytes.span.bytes)
    #expect((try? cursor.readBE(UInt64.self)) == fingerprint.high)
  }
}
