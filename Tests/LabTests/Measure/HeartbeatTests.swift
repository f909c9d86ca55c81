import Testing

@testable import Lab

@Suite struct HeartbeatTests {
  @Test func aLine() {
    let beat = Heartbeat(line: "HB 12 3456 789 3 0 9 0 4")
    #expect(beat?.sequence == 12 && beat?.uptimeMs == 3456 && beat?.dirtiedPages == 789)
    #expect(beat?.verifiedScans == 3 && beat?.errors == 0)
    #expect(beat?.work == 9 && beat?.diskScans == 4)
  }

  @Test(arguments: [
    "", "HB", "HB 1 2 3 4 5", "HB 1 2 3 4 5 6", "HB 1 2 3 4 5 6 7", "HB 1 2 3 4 5 6 7 8 9",
    "HB a 2 3 4 5 6 7 8",
    "HB -1 2 3 4 5 6 7 8",
    "xHB 1 2 3 4 5 6 0 0", "HB 99999999999999999999 2 3 4 5 6 0 0",
  ])
  func noLine(text: String) { #expect(Heartbeat(line: text) == nil) }

  /// Whatever a damaged guest says is a finding, not the end of the lab.
  @Test func theLargestNumberIsABreak() {
    var log = HeartbeatLog()
    let lines = "HB 18446744073709551615 20 5 0 0 9 0 0\nHB 7 40 9 1 0 9 0 0\n"
    log.receive(Array(lines.utf8), from: .source, atUs: 1000)
    #expect(log.sequenceBreaks == 1)
  }

  /// Two beats at the source, one at the destination, in the pieces that `split` makes.
  private func log(split: Int) -> HeartbeatLog {
    var log = HeartbeatLog()
    let bytes = Array(
      "boot\r\nREADY pages 1\r\nHB 1 20 5 0 0 9 0 0\r\nHB 2 40 9 1 0 9 0 0\r\n".utf8)
    log.receive(bytes[..<split], from: .source, atUs: 1000)
    log.receive(bytes[split...], from: .source, atUs: 2000)
    log.receive(Array("HB 3 60 12 1 0 9 0 0\n".utf8), from: .destination, atUs: 252_000)
    return log
  }

  @Test func everySplitGivesTheSame() {
    let whole = log(split: 0)
    for split in 0..<52 {
      let log = log(split: split)
      #expect(log.entries.map(\.beat) == whole.entries.map(\.beat))
      #expect(log.otherLines == ["boot", "READY pages 1"])
    }
    #expect(whole.isReady && whole.sequenceBreaks == 0 && whole.errors == 0)
    #expect(whole.handoverMs == 250)
    #expect(whole.count(from: .source) == 2 && whole.count(from: .destination) == 1)
  }

  /// It began at the destination, went to the source, and is back.
  @Test func aGuestThatReturns() {
    var log = HeartbeatLog()
    let beats: [(HeartbeatLog.Side, UInt64)] = [
      (.destination, 100_000), (.source, 400_000), (.source, 500_000), (.destination, 620_000),
    ]
    for (number, (side, atUs)) in beats.enumerated() {
      log.receive(Array("HB \(number) 20 5 0 0 9 0 0\n".utf8), from: side, atUs: atUs)
    }
    #expect(log.handoverMs == 120 && log.sequenceBreaks == 0)
  }

  @Test func aLineMayBeCutByTheMove() {
    var log = HeartbeatLog()
    log.receive(Array("HB 1 20 5 0 0 9 0 0\nHB 2 4".utf8), from: .source, atUs: 1000)
    log.receive(Array("0 9 1 0 9 0 0\nHB 3 60 12 1 0 9 0 0\n".utf8), from: .destination, atUs: 9000)
    #expect(log.entries.map(\.beat.sequence) == [1, 2, 3])
    #expect(log.entries.map(\.side) == [.source, .destination, .destination])
    #expect(log.sequenceBreaks == 0)
  }

  /// What was begun before the first move is no part of what the guest says when it is back.
  @Test func linesMayBeCutThereAndBack() {
    var log = HeartbeatLog()
    let parts: [(HeartbeatLog.Side, String)] = [
      (.destination, "HB 1 20 5 0 0 9 0 0\nH"), (.source, "B 2 40 9 1 0 9 0 0\nHB 3 6"),
      (.destination, "0 12 1 0 9 0 0\nHB 4 80 14 1 0 9 0 0\n"),
    ]
    for (index, (side, text)) in parts.enumerated() {
      log.receive(Array(text.utf8), from: side, atUs: UInt64(index) * 1000)
    }
    #expect(log.entries.map(\.beat.sequence) == [1, 2, 3, 4])
    #expect(log.sequenceBreaks == 0 && log.otherLines.isEmpty)
  }

  /// The reader looks at the source's connection before the guest's last words there, and at the destination's after
  /// its first words there: they are heard in the order in which they were said.
  @Test func aSlowReaderHearsThemInOrder() {
    var log = HeartbeatLog()
    var (source, destination) = ([Array("HB 1 20 5 0 0 9 0 0\nHB 2 4".utf8)], [[UInt8]]())
    // Two connections; between a look at the first and one at the second the guest moves.
    var looks = 0
    ArrivalOrder.take(
      count: 2,
      read: { index -> [UInt8]? in
        if index == 0 {
          guard source.isEmpty else { return source.removeFirst() }
          looks += 1
          if looks == 1 {
            source = [Array("0 9 1 0 9 0 0\n".utf8)]
            destination = [Array("HB 3 60 12 1 0 9 0 0\n".utf8)]
          }
          return nil
        }
        return destination.isEmpty ? nil : destination.removeFirst()
      },
      take: { index, bytes in
        log.receive(bytes, from: index == 0 ? .source : .destination, atUs: 1000)
      })
    #expect(log.entries.map(\.beat.sequence) == [1, 2, 3])
    #expect(log.entries.map(\.side) == [.source, .source, .destination])
    #expect(log.sequenceBreaks == 0 && log.otherLines.isEmpty)
  }

  /// Up to 17 bytes that QEMU's UART could not get rid of before the stop come from both sides, wherever they begin.
  @Test func whatBothSidesSayCountsOnce() {
    let lines = (10..<14).map { "HB \($0) \($0 * 20) 512 3 0 61\($0) 0 0\n" }
    let all = Array(lines.joined().utf8)
    for end in lines[0].utf8.count..<(all.count - lines[3].utf8.count) {
      for repeated in 0...SerialSeam.repeatedMax {
        var log = HeartbeatLog()
        log.receive(all[..<end], from: .source, atUs: 1000)
        let words = all[(end - repeated)...]
        let cut = words.index(words.startIndex, offsetBy: (end + repeated) % words.count)
        log.receive(words[..<cut], from: .destination, atUs: 2000)
        log.receive(words[cut...], from: .destination, atUs: 3000)
        let told = "\(repeated) bytes before \(end)"
        #expect(log.entries.map(\.beat.sequence) == [10, 11, 12, 13], "\(told)")
        #expect(log.entries.allSatisfy { $0.beat.uptimeMs == $0.beat.sequence * 20 }, "\(told)")
        #expect(log.sequenceBreaks == 0 && log.otherLines.isEmpty, "\(told)")
      }
    }
  }

  /// A guest that went back says whole lines again, and that is no repetition of QEMU's.
  @Test func aLineThatIsSaidTwiceIsSeen() {
    for repeated in 18...60 {
      var log = HeartbeatLog()
      let all = Array("HB 10 200 512 3 0 6110 0 0\nHB 11 220 512 3 0 6111 0 0\n".utf8)
      let more = Array("HB 12 240 512 3 0 6112 0 0\nHB 13 260 512 3 0 6113 0 0\n".utf8)
      log.receive(all, from: .source, atUs: 1000)
      log.receive(all.suffix(repeated) + more, from: .destination, atUs: 2000)
      #expect(log.entries.count > 4 || !log.otherLines.isEmpty, "\(repeated)")
      if repeated >= 27 { #expect(log.sequenceBreaks > 0, "\(repeated)") }
    }
  }

  @Test func lossIsSeen() {
    var log = HeartbeatLog()
    log.receive(Array("HB 1 20 5 0 0 9 0 0\nHB 2 40 9 1 0 9 0 0\n".utf8), from: .source, atUs: 1000)
    log.receive(
      Array("HB 2 40 9 1 0 9 0 0\nERR lost page 7\nHB 5 90 9 1 2 9 0 0\n".utf8), from: .destination,
      atUs: 2000)
    #expect(log.sequenceBreaks == 2)
    #expect(log.errors == 2)
    #expect(log.otherLines == ["ERR lost page 7"])
  }

  @Test func errorsBeforeTheNextBeatCount() {
    var log = HeartbeatLog()
    log.receive(Array("HB 1 20 5 0 0 9 0 0\nERR torn page 1\n".utf8), from: .source, atUs: 1)
    #expect(log.errors == 1)
  }

  @Test func endlessLinesAreCut() {
    var log = HeartbeatLog()
    log.receive(
      [UInt8](repeating: 65, count: 3 * HeartbeatLog.lineBytesMax), from: .source, atUs: 1)
    #expect(log.otherLines.allSatisfy { $0.utf8.count <= HeartbeatLog.lineBytesMax })
    for _ in 0..<2000 { log.receive(Array("noise\n".utf8), from: .source, atUs: 2) }
    #expect(log.otherLines.count == HeartbeatLog.lineCountMax)
  }

  @Test func gaps() {
    func gap(_ times: [UInt64], _ from: UInt64, _ to: UInt64) -> UInt64? {
      LongestGap.milliseconds(timesUs: times, fromUs: from, toUs: to)
    }
    #expect(gap([10_000, 20_000, 250_000, 260_000], 0, 270_000) == 230)
    #expect(gap([], 0, 5000) == 5)  // silent all the time
    #expect(gap([100_000], 0, 150_000) == 100)  // silent from the start on
    #expect(gap([10_000], 0, 150_000) == 140)  // silent until the end
    #expect(gap([5000, 900_000], 100_000, 200_000) == 100)  // outside of the window
    #expect(gap([1], 5, 5) == nil)
  }
}
