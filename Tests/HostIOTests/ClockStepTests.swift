import Testing

@testable import HostIO

@Suite struct ClockStepTests {
  @Test(
    arguments: [
      ("", 0), ("0\n", 0), ("-3600\n", -3600), ("2592000", 2_592_000), ("tomorrow", 0), ("1.5", 0),
      ("9223372036854775807", 315_360_000), ("-9223372036854775808", -315_360_000),
      ("9223372036854775808", 0),
    ] as [(String, Int64)])
  func steps(text: String, seconds: Int64) {
    #expect(ClockStep.parse(text) == seconds)
  }

  /// Without the variable, and tests have none, the clock is the system's.
  @Test func isOffByItself() {
    #expect(!ClockStep.isOn)
    #expect(ClockStep.seconds == 0)
  }
}
