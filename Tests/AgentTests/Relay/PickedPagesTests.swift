import Testing
import Wire

@testable import Agent

@Suite struct PickedPagesTests {
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
