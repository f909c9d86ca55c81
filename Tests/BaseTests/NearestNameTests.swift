import Base
import Testing

@Suite struct NearestNameTests {
  static let keys = ["memoryLimit", "listen", "laneCountMax", "incomingMax", "outgoingMax"]

  @Test(arguments: [
    ("memorylimit", "memoryLimit"), ("memroyLimit", "memoryLimit"), ("lisen", "listen"),
    ("lanesCountMax", "laneCountMax"), ("incomingMaxx", "incomingMax"),
  ])
  func mistakesAreSeenThrough(written: String, meant: String) {
    #expect(NearestName.of(written, among: Self.keys) == meant)
  }

  @Test(arguments: ["colour", "x", "", String(repeating: "listen", count: 100)])
  func whatIsFarAwayIsNotGuessed(written: String) {
    #expect(NearestName.of(written, among: Self.keys) == nil)
  }
}
