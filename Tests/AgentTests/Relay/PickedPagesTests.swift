import Strategy
import Testing
import Wire

@testable import Agent

@Suite struct PickedPagesTests {
  /// Scan and dirty pages share the link, on which zeros are next to nothing: a scan that comes upon them isn't held up by
  /// as many pages that are sent whole.
  @Test func zerosWeighLittle() throws {
    var state = SourceLedger.State(pen: PagePen(byteLimit: 1 << 20))
    let (dirtyPages, zeroPages) = (4000, 60_000)
    var ledger = PageLedger(blockPages: [dirtyPages + zeroPages])
    for page in 0..<dirtyPages {
      ledger.note(page, isZero: false)
      let isTaken = ledger.take(page)
      #expect(isTaken)
    }
    _ = ledger.endEpoch()
    for page in 0..<dirtyPages { ledger.note(page, isZero: false) }
    _ = ledger.endEpoch()
    for page in dirtyPages..<dirtyPages + zeroPages { ledger.note(page, isZero: true) }
    (state.ledger, state.blockIsShared) = (ledger, [true])
    var (zeros, others) = (0, 0)
    while zeros < zeroPages / 2, let picked = state.pick() {
      zeros += picked.zeroPages
      others += picked.rawPages
    }
    #expect(others > 0 && others < zeros / 32, "\(others) beside \(zeros) zeros")
    // All of them go.
    while let picked = state.pick() {
      zeros += picked.zeroPages
      others += picked.rawPages
    }
    #expect(zeros == zeroPages && others == dirtyPages)
  }

  /// Isolated pages fill a batch with runs; one right behind the last, of the other kind, would need one more.
  @Test func noBatchHasMoreRunsThanFit() {
    var picked = PickedPages()
    var areTaken = true
    for number in 0..<UInt64(BatchLimits.runsMax) {
      areTaken = areTaken && picked.takes(isZero: true, isInline: false, continuing: false)
      picked.add(block: 0, page: number * 2, isZero: true)
    }
    #expect(areTaken && picked.runs.count == BatchLimits.runsMax)
    #expect(!picked.takes(isZero: false, isInline: false, continuing: true))
    #expect(!picked.takes(isZero: true, isInline: false, continuing: false))
    #expect(picked.takes(isZero: true, isInline: false, continuing: true))
    picked.add(block: 0, page: UInt64(BatchLimits.runsMax) * 2 - 1, isZero: true)
    #expect(picked.runs.count == BatchLimits.runsMax)
  }
}
