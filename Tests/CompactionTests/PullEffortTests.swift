import Compaction
import Testing

@Suite struct PullEffortTests {
  /// A pull over a link whose destination asks for what keeps it busy for 2 ms, in frames of 128 KiB. Times in microseconds.
  struct World {
    static let frameBytes: UInt64 = 128 << 10
    static let queueUs: UInt64 = 2000

    var linkBytesPerMs: UInt64
    /// Page bytes that a lane packs in a millisecond, and thousandths that remain, by effort.
    var speed: [Effort: UInt64] = [.lz4: 700_000, .zstd1: 350_000]
    var size: [Effort: UInt64] = [.lz4: 450, .zstd1: 350]
    var effort: PullEffort
    private var lanes: [UInt64]
    private var workers: [UInt64]
    private var linkFreeUs: UInt64 = 0
    private var nowUs: UInt64 = 0

    init(linkBytesPerMs: UInt64, lanes: Int = 4, threads: Int = 2, fixed: Effort? = nil) {
      self.linkBytesPerMs = linkBytesPerMs
      effort = PullEffort(threads: threads, lanes: lanes, fixed: fixed, nowUs: 0)
      self.lanes = Array(repeating: 0, count: lanes)
      workers = Array(repeating: 0, count: threads)
    }

    /// Goes on for so many milliseconds.
    ///
    /// - Returns: page bytes that were sent, in a millisecond.
    @discardableResult mutating func run(ms: UInt64) -> UInt64 {
      let endUs = nowUs + ms * 1000
      var frames: UInt64 = 0
      while true {
        let lane = lanes.indices.min { lanes[$0] < lanes[$1] } ?? 0
        let idleFromUs = lanes[lane]
        let beganUs = max(idleFromUs, linkFreeUs > Self.queueUs ? linkFreeUs - Self.queueUs : 0)
        guard beganUs < endUs else { break }
        let (writingFromUs, wireBytes) = pack(from: beganUs)
        let writtenUs = writingFromUs + 5
        linkFreeUs = max(linkFreeUs, writtenUs) + wireBytes * 1000 / linkBytesPerMs
        effort.sent(
          .init(
            coveredBytes: Self.frameBytes, wireBytes: wireBytes, idleFromUs: idleFromUs,
            beganUs: beganUs, writingFromUs: writingFromUs, writtenUs: writtenUs))
        lanes[lane] = writtenUs
        frames += 1
      }
      nowUs = endUs
      return frames * Self.frameBytes / ms
    }

    private mutating func pack(from beganUs: UInt64) -> (doneUs: UInt64, wireBytes: UInt64) {
      let used = effort.next()
      guard used != .off else { return (beganUs, Self.frameBytes) }
      let worker = workers.indices.min { workers[$0] < workers[$1] } ?? 0
      let busyUs = Self.frameBytes * 1000 / (speed[used] ?? 1)
      let wireBytes = Self.frameBytes * (size[used] ?? 1000) / 1000
      let doneUs = max(beganUs, workers[worker]) + busyUs
      workers[worker] = doneUs
      effort.packed(
        used, pageBytes: Self.frameBytes, packedBytes: wireBytes, busyUs: busyUs,
        processorUs: busyUs)
      return (doneUs, wireBytes)
    }
  }

  @Test func aSlowLinkGetsAllThatAPullMayTake() {
    var world = World(linkBytesPerMs: 10_000)
    world.run(ms: 2000)
    #expect(world.effort.effort == .zstd1)
    // As fast as the link, for what is left of a page.
    let sent = world.run(ms: 2000)
    #expect(sent > 25_000)
  }

  @Test func aFastLinkGetsPagesAsTheyAre() {
    var world = World(linkBytesPerMs: 5_000_000)
    world.run(ms: 2000)
    #expect(world.effort.effort == .off)
    let sent = world.run(ms: 2000)
    #expect(sent > 4_500_000)
  }

  /// Packed by one thread, pages would go slower than they are.
  @Test func oneThreadIsNotTakenForFour() {
    var world = World(linkBytesPerMs: 1_000_000, threads: 1)
    world.run(ms: 2000)
    #expect(world.effort.effort == .off)
    world = World(linkBytesPerMs: 1_000_000, threads: 4)
    world.run(ms: 2000)
    #expect(world.effort.effort > .off)
  }

  @Test func incompressibleMemoryIsLeftAloneAndTriedNowAndThen() {
    var world = World(linkBytesPerMs: 100_000)
    world.size = [.lz4: 1000, .zstd1: 1000]
    world.run(ms: 4000)
    #expect(world.effort.effort == .off)
    let busyUs = world.effort.busyUs
    let sent = world.run(ms: 4000)
    #expect(sent > 99_000)
    // 4 s of a link that is full.
    #expect(world.effort.busyUs - busyUs < 40_000)
    #expect(world.effort.busyUs > busyUs)
    // What comes then can be packed.
    world.size = [.lz4: 450, .zstd1: 350]
    world.run(ms: 20_000)
    #expect(world.effort.effort > .off)
  }

  @Test func aLinkThatBecomesSlowIsNoticed() {
    var world = World(linkBytesPerMs: 5_000_000)
    world.run(ms: 2000)
    #expect(world.effort.effort == .off)
    world.linkBytesPerMs = 10_000
    world.run(ms: 4000)
    #expect(world.effort.effort == .zstd1)
    world.linkBytesPerMs = 5_000_000
    world.run(ms: 10_000)
    #expect(world.effort.effort == .off)
  }

  @Test func whatAPersonChoseIsKeptAsFarAsItGoes() {
    var world = World(linkBytesPerMs: 5_000_000, fixed: .zstd6)
    world.run(ms: 1000)
    #expect(world.effort.effort == PullEffort.most)
    world = World(linkBytesPerMs: 10_000, fixed: .lz4)
    world.run(ms: 1000)
    #expect(world.effort.effort == .lz4)
  }
}
