import Base
import Strategy
import Testing

/// What `PageLedger` says of its memory, held against what it allocates.
@Suite struct LedgerMemoryTests {
  /// 64 GiB of RAM: 16.8 million pages, 25.6 MB.
  @Test func aPageTakesNoMoreThanIsSaid() {
    let pages = 1 << 24
    var ledger = PageLedger(blockPages: [pages])
    let stored = ledger.storedByteCount
    #expect(UInt64(stored) <= PageLedger.byteCount(pages: UInt64(pages)))
    // 12 bits of bitmaps, and a sixteenth of that at most to search them.
    #expect((pages * 12 / 8...pages * 12 / 8 * 17 / 16).contains(stored), "\(stored)")
    // Whatever the guest does, it does not grow.
    for epoch in 0..<10 {
      for page in stride(from: epoch, to: pages, by: 1021) { ledger.note(page, isZero: false) }
      _ = ledger.endEpoch()
    }
    #expect(ledger.storedByteCount == stored)
  }

  @Test func memoryIsProportionalToTheGuest() {
    let (small, large) = (1 << 18, 1 << 22)
    let each = [small, large].map { PageLedger(blockPages: [$0]).storedByteCount }
    // What the allocator rounds up counts.
    #expect((each[0] * 155 / 10...each[0] * 165 / 10).contains(each[1]), "\(each)")
    // So a guest of 1 TiB takes 416 MiB at most, well below 2 bytes a page.
    #expect(PageLedger.byteCount(pages: 1 << 28) == 416 << 20)
  }
}
