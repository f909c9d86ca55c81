import Base
import Strategy
import Testing

@Suite struct PageNumberingTests {
  @Test func neighboursAreOfOneBlock() {
    let numbering = PageNumbering(blockPages: [128, 1, 63, 0, 200])
    #expect(numbering.pageCount == 392)
    var seen: Set<Int> = []
    for (block, count) in numbering.counts.enumerated() {
      for page in 0..<count {
        let number = numbering.number(block: block, page: page)
        #expect(seen.insert(number).inserted)
        #expect(numbering.block(of: number) == block)
      }
      #expect(!seen.contains(numbering.bases[block] + count))
    }
    #expect(seen.max() ?? 0 < numbering.limit)
  }
}

@Suite struct HeatHistoryTests {
  @Test(arguments: [1, 2, 3] as [UInt64])
  func agreesWithCounting(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let count = 300
    var history = HeatHistory(count: count)
    var epochs = [[Bool]](repeating: Array(repeating: false, count: count), count: 8)
    for _ in 0..<40 {
      for _ in 0..<(random.next() % 200) {
        let page = Int(random.next() % UInt64(count))
        let isFirst = history.note(page)
        #expect(isFirst == !epochs[7][page])
        epochs[7][page] = true
      }
      for page in 0..<count {
        let heat = UInt8(epochs.count { $0[page] })
        #expect(history.heat(of: page) == heat)
        for limit in 0...9 as ClosedRange<UInt8> {
          let bit = history.mask(group: page >> 6, atLeast: limit) >> UInt64(page & 63) & 1
          #expect(bit == (heat >= limit ? 1 : 0))
        }
      }
      history.turnOver()
      epochs.removeFirst()
      epochs.append(Array(repeating: false, count: count))
    }
  }
}

extension PageLedger {
  fileprivate mutating func takeFresh() -> Int? {
    nextFresh().flatMap { take($0) ? $0 : nil }
  }

  fileprivate mutating func takeDirty(colderThan heat: UInt8) -> Int? {
    nextDirty(colderThan: heat).flatMap { take($0) ? $0 : nil }
  }
}

@Suite struct PageLedgerTests {
  @Test func aPageIsTakenOncePerVersion() {
    var ledger = PageLedger(blockPages: [10, 10])
    for page in 0..<10 { ledger.note(page, isZero: page == 3) }
    #expect(ledger.freshCount == 10)
    #expect(ledger.isZero(3))
    #expect(ledger.takeFresh() == 0)
    ledger.note(0, isZero: false)
    ledger.note(1, isZero: false)
    ledger.note(1, isZero: false)
    #expect(ledger.dirtyCount == 2)
    #expect(ledger.supersededCount == 2)
    #expect(ledger.takeDirty(colderThan: 9) == 0)
    #expect(ledger.takeDirty(colderThan: 9) == 1)
    #expect(ledger.takeDirty(colderThan: 9) == nil)
    let rest = Array(sequence(state: 0) { _ in ledger.takeFresh() })
    #expect(rest == Array(2..<10))
    #expect(ledger.owedCount == 0)
    #expect(ledger.takenCount == 11)
  }

  /// However pages become zero and stop being it, the count is that of fresh pages that are.
  @Test(arguments: UInt64(1)...20) func freshZeroPagesAreCounted(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    var ledger = PageLedger(blockPages: [64])
    var state: [(isFresh: Bool, isZero: Bool)?] = Array(repeating: nil, count: 64)
    for _ in 0..<400 {
      let page = Int(random.next() % 64)
      if random.next() % 3 == 0 {
        if ledger.take(page) { state[page]?.isFresh = false }
      } else {
        let isZero = random.next() % 2 == 0
        ledger.note(page, isZero: isZero)
        state[page] = (state[page] == nil, isZero)
      }
      let truth = state.count { $0.map { $0.isFresh && $0.isZero } ?? false }
      #expect(ledger.freshZeroCount == truth, "seed \(seed)")
    }
  }

  @Test func hotPagesWaitAndColdOnesGo() {
    var ledger = PageLedger(blockPages: [256])
    for page in 0..<256 { ledger.note(page, isZero: false) }
    while ledger.takeFresh() != nil {}
    for epoch in 0..<3 {
      for page in stride(from: 0, to: 256, by: 4) { ledger.note(page, isZero: false) }
      if epoch == 1 { ledger.note(7, isZero: false) }
      let report = ledger.endEpoch()
      #expect(report.dirtied == (epoch == 1 ? 65 : 64))
      #expect(report.first == 0)
    }
    #expect(ledger.dirtyByHeat()[3] == 64)
    #expect(ledger.dirtyByHeat()[1] == 1)
    #expect(ledger.takeDirty(colderThan: 2) == 7)
    #expect(ledger.nextDirty(colderThan: 3) == nil)
    #expect(ledger.takeDirty(colderThan: 4) == 8)
    #expect(ledger.takeDirty(colderThan: 4) == 12)
    for _ in 0..<6 { _ = ledger.endEpoch() }
    #expect(ledger.dirtyByHeat()[1] == 62)
    #expect(ledger.takeDirty(colderThan: 2) == 16)
  }

  /// Of four pages that were dirtied one had been sent.
  @Test func pagesThatAreDirtiedBeforeTheScanComesAreCounted() {
    var ledger = PageLedger(blockPages: [64])
    for page in 0..<8 { ledger.note(page, isZero: false) }
    _ = ledger.take(0)
    for page in 0..<4 { ledger.note(page, isZero: false) }
    let report = ledger.endEpoch()
    #expect(report.dirtied == 4 && report.first == 3 && report.newlyOwed == 1)
  }

  /// Page 3 was dirtied in five epochs, 4 and 5 in two, 64 to 66 in one; 5 has been sent since.
  @Test func owedPagesAreNamedByHeat() {
    var ledger = PageLedger(blockPages: [200])
    for page in 0..<200 { ledger.note(page, isZero: false) }
    while let page = ledger.nextFresh() { _ = ledger.take(page) }
    for epoch in 0..<5 {
      ledger.note(3, isZero: false)
      if epoch > 2 { for page in [4, 5] { ledger.note(page, isZero: false) } }
      if epoch == 4 { for page in 64...66 { ledger.note(page, isZero: false) } }
      _ = ledger.endEpoch()
    }
    _ = ledger.take(5)
    let all = 1...8 as ClosedRange<UInt8>
    #expect(ledger.owedRuns(heat: 4...8, runsMax: 9, pagesMax: 99) == [3..<4])
    #expect(ledger.owedRuns(heat: 1...3, runsMax: 9, pagesMax: 99) == [4..<5, 64..<67])
    #expect(ledger.owedRuns(heat: all, runsMax: 9, pagesMax: 99) == [3..<5, 64..<67])
    #expect(ledger.owedRuns(heat: all, runsMax: 1, pagesMax: 99) == [3..<5])
    #expect(ledger.owedRuns(heat: all, runsMax: 9, pagesMax: 4) == [3..<5, 64..<66])
    #expect(ledger.owedRuns(heat: all, runsMax: 9, pagesMax: 0).isEmpty)
    #expect(ledger.owedRuns(heat: all, runsMax: 0, pagesMax: 9).isEmpty)
  }

  /// Against a plain model: what is owed is always what was mentioned and not taken since.
  @Test(arguments: Array(1...20) as [UInt64])
  func owesExactlyWhatIsLacking(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let counts = [200, 1, 77]
    var ledger = PageLedger(blockPages: counts)
    let numbers = counts.indices.flatMap { block in
      (0..<counts[block]).map { ledger.numbering.number(block: block, page: $0) }
    }
    var version = [Int: Int]()
    var sent = [Int: Int]()
    for _ in 0..<3000 {
      switch random.next() % 8 {
      case 0...3:
        let page = numbers[Int(random.next() % UInt64(numbers.count))]
        version[page, default: 0] += 1
        ledger.note(page, isZero: random.next() % 5 == 0)
      case 4: if let page = ledger.takeFresh() { sent[page] = version[page] }
      case 5:
        let heat = UInt8(random.next() % 10)
        if let page = ledger.takeDirty(colderThan: heat) {
          #expect(ledger.heat(of: page) < heat)
          sent[page] = version[page]
        }
      case 6:
        let page = numbers[Int(random.next() % UInt64(numbers.count))]
        if ledger.take(page) { sent[page] = version[page] }
      default: _ = ledger.endEpoch()
      }
    }
    let lacking = numbers.filter { version[$0] != sent[$0] }
    #expect(lacking.allSatisfy { ledger.isOwed($0) })
    #expect(ledger.owedCount == lacking.count)
    #expect(ledger.dirtyByHeat().reduce(0, +) == UInt64(ledger.dirtyCount))
    var walked: [Int] = []
    var next = ledger.firstOwed(atOrAfter: 0)
    while let page = next {
      walked.append(page)
      next = ledger.firstOwed(atOrAfter: page + 1)
    }
    #expect(walked == lacking.sorted())
  }
}
