import Base
import Strategy
import Testing

/// Both sides of a pull over lanes that reorder, repeat and lose, with a guest that faults at random and a destination
/// that may have some of the pages, or only seems to.
private struct PullWorld {
  var random: SplitMix64
  var directory: PullDirectory
  var source: PullSource
  let invalid: PageBitmap
  /// On their way, in any order.
  var requests: [PullRun] = []
  var pages: [Range<Int>] = []
  var placed: PageBitmap
  var handedOut: [Int: Int] = [:]
  var lostCount = 0
  /// The guest waits for these, in the order in which it began to.
  var waiting: [Int] = []
  var trouble: String?
  var nowUs: UInt64 = 0
  /// Pages that the destination has, and those that the source takes it to have; nil: nobody asks.
  var local: (held: PageBitmap, claimed: PageBitmap)?
  /// Proofs on their way, and pages that are being made.
  var answers: [Range<Int>] = []
  var making: [Int] = []
  /// Proven, and neither here nor given up, nor asked for because making them takes too long.
  var proven: Set<Int> = []

  init(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let blocks = (0..<Int.random(in: 1...4, using: &random)).map { _ in
      Int.random(in: 1...300, using: &random)
    }
    let numbering = PageNumbering(blockPages: blocks)
    var invalid = PageBitmap(count: numbering.limit)
    let share = Int.random(in: 0...100, using: &random)
    for (base, count) in zip(numbering.bases, numbering.counts) {
      for page in base..<base + count where Int.random(in: 0..<100, using: &random) < share {
        invalid[page] = true
      }
    }
    self.invalid = invalid
    placed = PageBitmap(count: numbering.limit)
    directory = PullDirectory(
      numbering: numbering, invalid: invalid,
      pace: PullPace(pagesMax: Int.random(in: 1...64, using: &random)),
      runMax: Int.random(in: 1...32, using: &random))
    source = PullSource(numbering: numbering)
    if Bool.random(using: &random) {
      var (claimed, held) = (PageBitmap(count: numbering.limit), PageBitmap(count: numbering.limit))
      let truth = Int.random(in: 0...100, using: &random)
      for page in 0..<numbering.limit where Bool.random(using: &random) {
        claimed[page] = true
        if Int.random(in: 0..<100, using: &random) < truth { held[page] = true }
      }
      local = (held: held, claimed: claimed)
      directory.mayBeMade(Bool.random(using: &random) ? nil : claimed)
    }
    self.random = random
  }

  mutating func step() throws {
    nowUs += UInt64.random(in: 0...2000, using: &random)
    switch Int.random(in: 0..<25, using: &random) {
    case 0..<3: try fault()
    case 3..<8: ask()
    case 8..<13: try send()
    case 13..<18: try receive()
    case 18:
      // A frame that was sent again although it had arrived.
      if let run = pages.randomElement(using: &random) { pages.append(run) }
    case 19: answer()
    case 20: try hear()
    case 21: take()
    case 22: try make()
    case 23: try prefer()
    default: if Int.random(in: 0..<40, using: &random) == 0 { breakConnection() }
    }
  }

  private mutating func fault() throws {
    let numbering = directory.numbering
    let block = Int.random(in: 0..<numbering.counts.count, using: &random)
    let page = numbering.number(
      block: block, page: Int.random(in: 0..<numbering.counts[block], using: &random))
    try directory.fault(page, nowUs: nowUs)
    if invalid[page], !placed[page], !waiting.contains(page) { waiting.append(page) }
  }

  /// The source says of pages how hot they are, right or wrong.
  private mutating func prefer() throws {
    let numbering = directory.numbering
    let block = Int.random(in: 0..<numbering.counts.count, using: &random)
    let first = Int.random(in: 0..<numbering.counts[block], using: &random)
    let end = Int.random(in: first + 1...numbering.counts[block], using: &random)
    let base = numbering.bases[block]
    try directory.prefer(base + first..<base + end, heat: UInt8.random(in: 0...8, using: &random))
  }

  private mutating func ask() {
    let before = directory.inFlight
    let unasked = waiting.filter { !asked.contains($0) && !proven.contains($0) }
    let first = unasked.first
    guard let run = directory.nextRequest(nowUs: nowUs) else {
      if first != nil { trouble = "nothing is asked for, and the guest waits" }
      return
    }
    if let first, run != PullRun(first..<first + 1, .urgent) {
      // What could not be made stands behind the others.
      let isOther =
        run.isUrgent
        && (unasked.contains(run.pages.lowerBound) || proven.contains(run.pages.lowerBound))
      if !isOther { trouble = "\(run) is asked for before \(first), which the guest waits for" }
    }
    if run.isUrgent, !waiting.contains(run.pages.lowerBound) {
      trouble = "nobody waits for \(run)"
    }
    if run.kind != .identities { proven.subtract(run.pages) }
    if run.isUrgent { asked.insert(run.pages.lowerBound) }
    if directory.inFlight > before, directory.inFlight > directory.pace.pages {
      trouble = "too many are asked for ahead"
    }
    requests.append(run)
  }
  var asked: Set<Int> = []

  private mutating func send() throws {
    if !requests.isEmpty, Bool.random(using: &random) { try source.request(requests.removeFirst()) }
    let limit = Int.random(in: 1...16, using: &random)
    let (first, second) = (Bool.random(using: &random), source)
    guard let run = first ? source.nextUrgent(limit: limit) : source.nextAhead(limit: limit) else {
      if source.counters != second.counters {
        trouble = "pages are counted that were not handed out"
      }
      return
    }
    for page in run {
      handedOut[page, default: 0] += 1
      if !invalid[page] { trouble = "\(page) goes, and nobody asked for it" }
    }
    pages.append(run)
  }

  private mutating func receive() throws {
    guard !pages.isEmpty else { return }
    let run = pages.remove(at: Int.random(in: 0..<pages.count, using: &random))
    for page in run {
      let isNew = try directory.arrived(page, nowUs: nowUs)
      if isNew != (invalid[page] && !placed[page]) { trouble = "page \(page): placed \(isNew)" }
      if isNew, !placed.insert(page) { trouble = "page \(page) is placed twice" }
      noteHere(page)
    }
  }

  private mutating func noteHere(_ page: Int) {
    waiting.removeAll { $0 == page }
    proven.remove(page)
  }

  private mutating func answer() {
    let limit = Int.random(in: 1...16, using: &random)
    if let run = source.nextQuestion(limit: limit) { answers.append(run) }
  }

  private mutating func hear() throws {
    guard let local, !answers.isEmpty else { return }
    for page in answers.remove(at: Int.random(in: 0..<answers.count, using: &random)) {
      if try directory.identified(page, isKnown: local.claimed[page]) { proven.insert(page) }
    }
  }

  private mutating func take() { _ = take(isUrgent: Bool.random(using: &random)) }

  /// - Returns: whether there was something to make.
  private mutating func take(isUrgent: Bool) -> Bool {
    let pages = directory.takeToMake(
      isUrgent: isUrgent, limit: Int.random(in: 1...8, using: &random), nowUs: nowUs)
    for page in pages {
      if !proven.contains(page) { trouble = "\(page) is made without a proof" }
      if isUrgent, !waiting.contains(page) { trouble = "nobody waits for \(page), which is made" }
    }
    making += pages
    return !pages.isEmpty
  }

  private mutating func make() throws {
    guard let local, !making.isEmpty else { return }
    let page = making.remove(at: Int.random(in: 0..<making.count, using: &random))
    guard local.held[page] else {
      proven.remove(page)
      return try directory.failed(page)
    }
    let isNew = try directory.arrived(page, from: .snapshot, nowUs: nowUs)
    if isNew != !placed[page] { trouble = "page \(page), made here: placed \(isNew)" }
    if isNew { _ = placed.insert(page) }
    noteHere(page)
  }

  private mutating func breakConnection() {
    lostCount += 1
    source = PullSource(numbering: directory.numbering)
    (pages, requests, answers, asked) = ([], [], [], [])
    directory.forgetRequests()
  }

  /// Until nothing is on its way any more.
  mutating func finish() throws {
    var rounds = 0
    // Both makers come back with what they have, take something once more and never come back.
    while !making.isEmpty { try make() }
    let isStuck = Bool.random(using: &random)
    var stuck: Set<Bool> = []
    while !directory.isDone, rounds < 100_000 {
      rounds += 1
      nowUs += 1000
      ask()
      try send()
      try receive()
      answer()
      try hear()
      guard !isStuck else {
        for isUrgent in [true, false] where !stuck.contains(isUrgent) {
          if take(isUrgent: isUrgent) { stuck.insert(isUrgent) }
        }
        continue
      }
      take()
      try make()
    }
  }
}

@Suite struct PullPropertyTests {
  @Test(arguments: UInt64(1)...200)
  func everyPageIsPlacedOnceAndFaultsGoFirst(seed: UInt64) throws {
    var world = PullWorld(seed: seed)
    for _ in 0..<400 where world.trouble == nil { try world.step() }
    if world.trouble == nil { try world.finish() }
    #expect(world.trouble == nil, "seed \(seed)")
    #expect(world.directory.isDone && world.placed == world.invalid, "seed \(seed)")
    #expect(world.waiting.isEmpty, "seed \(seed)")
    #expect(world.directory.counters.placed == world.invalid.population, "seed \(seed)")
    #expect(world.directory.inFlight == 0, "seed \(seed)")
    if world.lostCount == 0 {
      #expect(world.handedOut.values.allSatisfy { $0 == 1 }, "sent twice, seed \(seed)")
    }
  }
}
