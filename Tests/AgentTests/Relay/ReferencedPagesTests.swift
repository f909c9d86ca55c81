import Base
import Testing
import Wire

@testable import Agent

@Suite struct ReferencedPagesTests {
  private static let windowBytes: UInt64 = 64 << 20

  /// Frames of 128 pages that an honest source sends ahead, when references make them as small as they get.
  private static func framesAhead() throws -> UInt64 {
    var window = SendWindow(limitMax: windowBytes)
    var (sequence, nowMs): (UInt64, UInt64) = (0, 0)
    // A fast link opens the window.
    while window.limit < windowBytes {
      for _ in 0..<64 {
        sequence += 1
        window.sent(sequence: sequence, bytes: 1 << 20, nowMs: nowMs)
      }
      nowMs += 100
      let isKnown = window.acknowledged(through: sequence, nowMs: nowMs)
      #expect(isKnown)
      try #require(nowMs < 100_000)
    }
    let before = sequence
    let pageBytes = UInt64(BatchLimits.rawPagesMax * Page.size)
    while window.admits(200, pageBytes: pageBytes) {
      sequence += 1
      window.sent(sequence: sequence, bytes: 200, pageBytes: pageBytes, nowMs: nowMs)
    }
    return sequence - before
  }

  private static func pages(of sequence: UInt64) -> [PagePlace] {
    (0..<UInt64(BatchLimits.rawPagesMax)).map { PagePlace(block: 0, page: sequence * 128 + $0) }
  }

  /// A snapshot that turns out unreadable costs bandwidth: everything on its way may be asked for, and what overtook
  /// it; more than that no honest source sends.
  @Test func allThatIsOnItsWayMayBeAskedFor() throws {
    let ahead = try Self.framesAhead()
    #expect(Int(ahead) * BatchLimits.rawPagesMax == SendWindow.pagesMax(limitMax: Self.windowBytes))
    let referenced = ReferencedPages(windowBytes: Self.windowBytes)
    let most = ahead + UInt64(SendQueue.depthMax)
    for sequence in 1...most { try referenced.expect(Self.pages(of: sequence), of: sequence) }
    #expect(throws: RelayFailure.self) {
      try referenced.expect([PagePlace(block: 0, page: 0)], of: most + 1)
    }
  }
}
