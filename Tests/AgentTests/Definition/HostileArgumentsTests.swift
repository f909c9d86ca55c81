import Base
import Testing

@testable import Agent

@Suite struct HostileArgumentsTests {
  private let pieces = [
    "-drive", "-blockdev", "-mon", "-chardev", "-machine", "-S", "--", "-", "", ",", ",,", "=",
    "file=",
    "id=m", "/etc/shadow", "/images/a", "//", "/..", "{", "\"", "{\"driver\":\"file\"", "json:",
    "}", ":",
    "é", " ", "pc", "[[[[", "chardev=m", "unix:",
  ]

  /// Whatever the arguments are: no trap, and no path outside the rule gets through.
  @Test func randomCommandLines() {
    let rule = PathRule(allowed: ["/images"])
    for seed in 0..<2000 as Range<UInt64> {
      var random = SplitMix64(seed: seed)
      let words = (0..<Int.random(in: 0..<8, using: &random)).map { _ in
        (0..<Int.random(in: 1..<6, using: &random)).map { _ in
          pieces.randomElement(using: &random) ?? ""
        }.joined()
      }
      var launch = LaunchArguments(words)
      launch.removeStartup()
      launch.removeMonitors()
      launch.resolveMachine(to: "pc-i440fx-7.2")
      launch.rewritePaths([.init(from: "/images", to: "/images")])
      _ = QEMUCommandLine(arguments: launch.words)
      guard (try? launch.checkPaths(rule, strict: true)) != nil else { continue }
      for word in launch.words {
        #expect(!word.contains("=/etc/") && !word.hasPrefix("/etc/"), "seed \(seed): \(word)")
      }
    }
  }

  /// Reading paths and writing them back changes nothing.
  @Test func rewritingToTheSameIsNoChange() {
    for seed in 0..<2000 as Range<UInt64> {
      var random = SplitMix64(seed: seed)
      let value = (0..<Int.random(in: 1..<8, using: &random)).map { _ in
        ["file=", "/a", "b", ",,", ",", "\"", ":", "x"].randomElement(using: &random) ?? ""
      }.joined()
      let fields = OptionFields(value, implied: "k").fields.map(\.key)
      let rewritten = ArgumentPaths.rewrite(value) { $0 }
      #expect(OptionFields(rewritten, implied: "k").fields.map(\.key) == fields, "seed \(seed)")
    }
  }
}
