import Base
import Foundation
import Testing

@testable import Agent

@Suite struct ProgressViewTests {
  static let example: MigrationProgress = {
    var look = MigrationProgress(
      id: "1", vm: "web-1", peer: "host-b:4750", side: "source", phase: .iterate,
      strategy: "precopy")
    look.pageSource = "shared"
    look.elapsedMs = 5230
    look.progressPermille = 714
    look.etaMs = 2100
    look.wireBytes = 512 << 20
    look.wireBytesPerSecond = 105_000_000
    look.remainingBytes = 120 << 20
    look.dirtyBytesPerSecond = 15_000_000
    look.iteration = 2
    look.expectedDowntimeMs = 210
    return look
  }()

  @Test func wideTerminal() {
    #expect(
      ProgressView.lines(Self.example, width: 100) == [
        "web-1 → host-b:4750  iterate 2  [precopy, shared pages]",
        String(repeating: "█", count: 42) + String(repeating: "░", count: 18)
          + " 71.4 %  5.2 s, 2.1 s left",
        "link 105 MB/s   dirty 15 MB/s   remaining 120 MiB   downtime now 210 ms   sent 512 MiB",
      ])
  }

  @Test func narrowTerminalWrapsFactsAndCutsTheTitle() {
    #expect(
      ProgressView.lines(Self.example, width: 40) == [
        "web-1 → host-b:4750  iterate 2  [precop…",
        "█████████░░░░░ 71.4 %  5.2 s, 2.1 s left",
        "link 105 MB/s   dirty 15 MB/s",
        "remaining 120 MiB   downtime now 210 ms",
        "sent 512 MiB",
      ])
  }

  @Test func noLineIsWiderThanTheTerminal() {
    for width in 10...140 {
      for line in ProgressView.lines(Self.example, width: width, ageMs: 9000) {
        #expect(TerminalText.width(line) <= width, "width \(width): \(line)")
      }
    }
  }

  @Test func oldNewsCarryTimesOnAndSaySo() {
    let bar = ProgressView.lines(Self.example, width: 100, ageMs: 4000)[1]
    #expect(bar.hasSuffix("71.4 %  9.2 s, 0.0 s left, no news for 4 s"))
  }

  @Test func bandWorkingSetAndLanes() {
    var look = Self.example
    (look.etaLowMs, look.etaHighMs, look.boundMs) = (1800, 2600, 9000)
    (look.workingSetBytes, look.laneCount, look.retries) = (64 << 20, 4, 2)
    let lines = ProgressView.lines(look, width: 120)
    #expect(lines[1].hasSuffix("71.4 %  5.2 s, 2.1 s left (1.8 s to 2.6 s)"))
    #expect(lines[2].contains("dirty 15 MB/s   working set 64 MiB   remaining"))
    #expect(lines.joined(separator: " ").contains("ends within 9 s"))
    #expect(lines.last?.hasSuffix("4 lanes, 2 opened again") == true)
    look.etaHighMs = nil
    #expect(ProgressView.line(look).contains("2.1 s left (1.8 s or more)"))
    look.isConnected = false
    #expect(ProgressView.line(look).contains("looking for the other agent"))
  }

  /// While nothing comes through there is no end to name, only how long that has been so.
  @Test func aWaitTakesTheEndsPlace() {
    var look = Self.example
    (look.etaLowMs, look.etaHighMs) = (1800, 2600)
    look.waits(forMs: 12_300)
    #expect(look.etaMs == nil && look.etaLowMs == nil && look.etaHighMs == nil)
    #expect(
      ProgressView.line(look).contains("  end not known, nothing has come through for 12.3 s  "))
    look.isConnected = false
    let bar = ProgressView.lines(look, width: 100, ageMs: 1000)[1]
    #expect(bar.hasSuffix("6.2 s, looking for the other agent for 13.3 s"))
    look.waits(forMs: .max)
    #expect(!ProgressView.lines(look, width: 100, ageMs: 1000).isEmpty)
    // Who has handed the guest over waits for nobody.
    look.phase = .keep
    look.waits(forMs: 5000)
    #expect(look.waitedMs == nil)
  }

  @Test func aWaitIsWrittenWithItsFieldAlsoWhereNobodyWaits() throws {
    let json = String(decoding: try JSONEncoder().encode(Self.example), as: UTF8.self)
    #expect(json.contains(#""waitedMs":null"#))
  }

  @Test func unknownFiguresAreLeftOut() {
    let look = MigrationProgress(
      id: "1", vm: "v", peer: "p", side: "destination", phase: .prepare, strategy: "precopy")
    #expect(
      ProgressView.line(look)
        == "v prepare  0.0 %  end not known yet  remaining 0 B  sent 0 B")
    #expect(ProgressView.lines(look, width: 80)[0] == "v ← p  prepare  [precopy]")
  }

  @Test func afterTheHandOverOnlyTheTotalIsShown() {
    var look = Self.example
    look.phase = .commit
    #expect(ProgressView.line(look) == "web-1 commit  71.4 %  2.1 s left  sent 512 MiB")
  }

  @Test func namesCannotSteerTheTerminal() {
    var look = Self.example
    look.vm = "a\u{1B}[2Jb\r\nc"
    for line in ProgressView.lines(look, width: 80) + [ProgressView.line(look)] {
      #expect(line.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control })
    }
  }

  @Test func extremeValuesDoNotTrap() {
    var look = Self.example
    look.elapsedMs = .max
    look.etaMs = .max
    look.progressPermille = .max
    look.wireBytes = .max
    look.wireBytesPerSecond = .max
    look.remainingBytes = .max
    look.dirtyBytesPerSecond = .max
    look.expectedDowntimeMs = .max
    (look.etaLowMs, look.etaHighMs, look.workingSetBytes) = (.max, .max, .max)
    (look.laneCount, look.retries) = (.max, .max)
    for age in [0, UInt64.max] {
      #expect(!ProgressView.lines(look, width: 80, ageMs: age).isEmpty)
    }
    #expect(ProgressView.percent(look) == "100.0 %")
  }

  @Test func shareNeverRunsBackwards() {
    var steady = SteadyProgress()
    var look = Self.example
    var shown: [UInt64] = []
    for permille: UInt64 in [100, 300, 250, 299, 301, 5000, 900] {
      look.progressPermille = permille
      shown.append(steady.settle(look).progressPermille)
    }
    #expect(shown == [100, 300, 300, 300, 301, 1000, 1000])
    steady.keep(only: [])
    look.progressPermille = 10
    #expect(steady.settle(look).progressPermille == 10)
  }
}

@Suite struct LiveScreenTests {
  @Test func secondFrameStartsWhereTheFirstDid() {
    var screen = LiveScreen()
    #expect(screen.frame(["one", "two"], width: 80).contains("\r\u{1B}[") == false)
    let second = screen.frame(["three"], width: 80)
    #expect(second.contains("\r\u{1B}[2Athree\u{1B}[K\n"))
    #expect(second.contains("\u{1B}[2J") == false)
  }

  @Test func narrowerTerminalHasWrappedTheOldLines() {
    var screen = LiveScreen()
    _ = screen.frame([String(repeating: "x", count: 70), "short"], width: 80)
    // 70 columns take 3 rows of 30, and the short line 1.
    #expect(screen.frame(["y"], width: 30).contains("\u{1B}[4A"))
  }

  @Test func blockNeverGetsTallerThanTheTerminal() {
    var screen = LiveScreen()
    let lines = (1...40).map { "line \($0)" }
    let first = screen.frame(lines, width: 80, height: 10)
    #expect(first.split(separator: "\n").count { $0.hasSuffix("\u{1B}[K") } == 9)
    #expect(first.contains("… 32 more lines"))
    #expect(screen.frame(lines, width: 80, height: 10).contains("\u{1B}[9A"))
  }

  @Test func clearedScreenForgetsItsLines() {
    var screen = LiveScreen()
    _ = screen.frame(["one"], width: 80)
    #expect(screen.clear(width: 80) == "\r\u{1B}[1A\u{1B}[J")
    #expect(screen.clear(width: 80) == "\r\u{1B}[J")
  }

  @Test func wideCharactersCountTwice() {
    #expect(TerminalText.width("日本") == 4)
    #expect(TerminalText.fit("日本語", columns: 5) == "日本…")
    #expect(TerminalText.fit("abc", columns: 3) == "abc")
  }
}
