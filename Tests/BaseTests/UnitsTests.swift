import Base
import Testing

@Suite struct UnitsTests {
  @Test(
    arguments: [
      ("512MiB", 512 << 20), ("1.5GiB", 3 << 29), ("64 KiB", 65536), ("100MB", 100_000_000),
      ("4096", 4096), ("0B", 0),
    ] as [(String, UInt64)])
  func sizesRead(text: String, bytes: UInt64) {
    #expect(ByteCount(parsing: text) == ByteCount(bytes))
  }

  @Test(arguments: ["", "MiB", "-1", "1.2.3MiB", "12 parsecs", "99999999TiB", "1e3", "0x10"])
  func sizesRefused(text: String) { #expect(ByteCount(parsing: text) == nil) }

  @Test(
    arguments: [
      ("1Gbit", 125_000_000), ("200Mbit", 25_000_000), ("100MiB/s", 104_857_600),
      ("40MB/s", 40_000_000),
    ] as [(String, UInt64)])
  func ratesRead(text: String, bytesPerSecond: UInt64) {
    #expect(ByteRate(parsing: text)?.bytesPerSecond == bytesPerSecond)
  }

  /// The best of the last eight; what is older is forgotten.
  @Test func ofRecentRatesTheBestCounts() {
    var rates = RecentRates()
    #expect(rates.best == nil)
    rates.note(900)
    for rate in 1...7 as ClosedRange<UInt64> { rates.note(rate) }
    #expect(rates.best == 900)
    rates.note(8)
    #expect(rates.best == 8)
    for _ in 0..<7 { rates.note(1) }
    #expect(rates.best == 8)
    rates.note(1)
    #expect(rates.best == 1)
  }

  @Test func zeroRateIsNoRate() { #expect(ByteRate(parsing: "0Gbit") == nil) }

  @Test func durationsNeedAUnit() {
    #expect(Milliseconds.parse("300ms") == 300)
    #expect(Milliseconds.parse("1.5s") == 1500)
    #expect(Milliseconds.parse("2m") == 120_000)
    #expect(Milliseconds.parse("300") == nil)
  }

  @Test(
    arguments: [
      (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (512 << 20, "512 MiB"),
      (12_582_912 + 524_288, "12.5 MiB"),
    ] as [(UInt64, String)])
  func sizesWritten(bytes: UInt64, text: String) { #expect(ByteCount(bytes).description == text) }

  @Test func durationsWritten() {
    #expect(Milliseconds.format(87) == "87 ms")
    #expect(Milliseconds.format(5210) == "5.21 s")
    #expect(Milliseconds.format(200_000) == "3 m 20 s")
  }

  @Test func timeAtARateRoundsUpAndSaturates() throws {
    let rate = try #require(ByteRate(bytesPerSecond: 3))
    #expect(rate.milliseconds(for: ByteCount(1)) == 334)
    #expect(rate.milliseconds(for: ByteCount(.max)) == .max)
  }
}
