import Compaction
import Testing

@Suite struct EffortTests {
  /// A link, workers and memory: how long each effort takes and what it makes of a batch.
  struct World {
    var linkBytesPerMs: UInt64
    var workers: UInt64 = 2
    /// Page bytes a worker handles in a millisecond, and thousandths that remain, by effort.
    var speed: [Effort: UInt64] = [.lz4: 700_000, .zstd1: 350_000, .zstd3: 200_000, .zstd6: 70_000]
    var size: [Effort: UInt64] = [.lz4: 450, .zstd1: 350, .zstd3: 330, .zstd6: 310]
    /// Page bytes a millisecond that there are to send.
    var source: UInt64 = .max
    /// Share of its time that a worker has a processor for.
    var processorPermille: UInt64 = 1000

    static let batch: UInt64 = 512 << 10

    /// Runs the controller for so many intervals; page bytes that went over in the last.
    func run(_ controller: inout EffortController, intervals: Int) -> UInt64 {
      var pages: UInt64 = 0
      for _ in 0..<intervals {
        let effort = controller.effort
        let work = effort == .off ? .max : (speed[effort] ?? 1) * workers
        let permille = effort == .off ? 1000 : size[effort] ?? 1000
        let link = linkBytesPerMs * 1000 / permille
        let rate = min(work, link, source)
        var interval = EffortController.Interval()
        interval.elapsedUs = 100_000
        pages = rate * 100
        interval.wireBytes = pages * permille / 1000
        let busy = effort == .off ? 0 : pages * 1000 / (speed[effort] ?? 1)
        interval.packingUs = busy
        interval.processorUs = busy * processorPermille / 1000
        let rest = workers * interval.elapsedUs - min(busy, workers * interval.elapsedUs)
        if rate == link {
          interval.blockedUs = rest
        } else if rate == source {
          interval.idleUs = rest
        }
        var batches = pages / Self.batch
        while batches > 0 {
          batches -= 1
          let used = controller.next()
          guard used != .off else { continue }
          controller.packed(
            used, pageBytes: Self.batch, wireBytes: Self.batch * (size[used] ?? 1000) / 1000,
            busyUs: Self.batch * 1000 / (speed[used] ?? 1))
        }
        controller.handle(interval)
      }
      return pages
    }
  }

  /// The lanes are full because the destination is busy with packed pages: packing them smaller helps nobody.
  @Test func aBusyDestinationIsNoSlowLink() {
    func effort(after intervals: Int, coveredBytes: UInt64) -> Effort {
      var controller = EffortController(workers: 1)
      _ = World(linkBytesPerMs: 118_000, workers: 1).run(&controller, intervals: 3)
      for _ in 0..<intervals {
        controller.packed(.lz4, pageBytes: 1 << 20, wireBytes: 300 << 10, busyUs: 1500)
        var interval = EffortController.Interval()
        (interval.elapsedUs, interval.blockedUs) = (100_000, 60_000)
        (interval.wireBytes, interval.coveredBytes) = (2_300_000, coveredBytes)
        (interval.packingUs, interval.processorUs) = (30_000, 30_000)
        controller.handle(interval)
      }
      return controller.effort
    }
    #expect(effort(after: 6, coveredBytes: 11_000_000) <= .zstd1)
    #expect(effort(after: 6, coveredBytes: 2_300_000) > .zstd1)
    // A link that has become slow shows in the end.
    #expect(effort(after: 14, coveredBytes: 11_000_000) > .zstd1)
  }

  @Test func aFastLinkGetsPagesAsTheyAre() {
    var controller = EffortController(workers: 2)
    let pages = World(linkBytesPerMs: 5_000_000).run(&controller, intervals: 30)
    #expect(controller.effort == .off)
    #expect(pages == 5_000_000 * 100)
  }

  @Test func aSlowLinkGetsAllTheEffortThereIsTimeFor() {
    var controller = EffortController(workers: 2)
    _ = World(linkBytesPerMs: 25_000).run(&controller, intervals: 30)
    #expect(controller.effort == .zstd6)
    // Gigabit: the strongest effort would be slower than the link.
    controller = EffortController(workers: 2)
    _ = World(linkBytesPerMs: 110_000).run(&controller, intervals: 30)
    #expect(controller.effort == .zstd3)
  }

  @Test func incompressibleMemoryIsLeftAlone() {
    var controller = EffortController(workers: 2)
    var world = World(linkBytesPerMs: 110_000)
    for effort in Effort.allCases { world.size[effort] = 1001 }
    _ = world.run(&controller, intervals: 30)
    #expect(controller.effort == .off)
  }

  @Test func memoryThatCompressesLaterIsFoundByProbes() {
    var controller = EffortController(workers: 2)
    var world = World(linkBytesPerMs: 110_000)
    for effort in Effort.allCases { world.size[effort] = 1001 }
    _ = world.run(&controller, intervals: 30)
    _ = World(linkBytesPerMs: 110_000).run(&controller, intervals: 200)
    #expect(controller.effort > .off)
  }

  @Test func aLinkThatBecomesFastIsNoticed() {
    var controller = EffortController(workers: 1)
    _ = World(linkBytesPerMs: 25_000, workers: 1).run(&controller, intervals: 30)
    #expect(controller.effort > .off)
    _ = World(linkBytesPerMs: 5_000_000, workers: 1).run(&controller, intervals: 50)
    #expect(controller.effort == .off)
  }

  @Test func wherePackingIsTheLimitItIsSeldomLeftOut() {
    // Twice as much goes over packed as raw, and the link isn't full with it.
    var controller = EffortController(workers: 2)
    let world = World(linkBytesPerMs: 700_000)
    _ = world.run(&controller, intervals: 300)
    var raw = 0
    for _ in 0..<200 {
      _ = world.run(&controller, intervals: 1)
      if controller.effort == .off { raw += 1 }
    }
    #expect(raw <= 4)
  }

  @Test func nothingToSendDecidesNothing() {
    var controller = EffortController(workers: 2)
    _ = World(linkBytesPerMs: 110_000, source: 10_000).run(&controller, intervals: 20)
    #expect(controller.effort == .lz4)
  }

  /// Slabs with gaps behind random values: little to gain, and zstd is no better at it than LZ4.
  @Test func whereProcessorsAreShortAnEffortMustWinItsTimeBack() {
    var world = World(linkBytesPerMs: 119_000, workers: 1)
    world.speed = [.lz4: 1_500_000, .zstd1: 350_000, .zstd3: 250_000, .zstd6: 100_000]
    world.size = [.lz4: 890, .zstd1: 850, .zstd3: 849, .zstd6: 848]
    var controller = EffortController(workers: 1)
    _ = world.run(&controller, intervals: 100)
    #expect(controller.effort >= .zstd1)
    world.processorPermille = 600
    controller = EffortController(workers: 1)
    _ = world.run(&controller, intervals: 100)
    #expect(controller.effort == .lz4)
    // Ordinary memory pays even so.
    controller = EffortController(workers: 1)
    var ordinary = World(linkBytesPerMs: 50_000, workers: 1)
    ordinary.processorPermille = 600
    _ = ordinary.run(&controller, intervals: 100)
    #expect(controller.effort >= .zstd1)
  }
}
