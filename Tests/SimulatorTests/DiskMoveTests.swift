import Base
import DiskStrategy
import Testing

@testable import Simulator

@Suite struct DiskMoveTests {
  private func setup(_ method: MoveMethod?, _ disk: DiskModel = .ssd) -> DiskMoveSetup {
    var load = DiskLoadModel()
    (load.thinkUs, load.clients, load.readPercent) = (500, 4, 40)
    return DiskMoveSetup(method, disk: disk, load: load, byteCount: 12 << 20)
  }

  /// Whatever is written meanwhile and however often the link breaks, the copy is whole; and it ends.
  @Test(arguments: [.precopy, .mirror, .iofollow] as [MoveMethod], DiskLoadModel.Pattern.allCases)
  func copiesAreWhole(method: MoveMethod, pattern: DiskLoadModel.Pattern) throws {
    for disk in [DiskModel.ssd, .hdd, .network] {
      var setup = setup(method, disk)
      (setup.load.pattern, setup.lengthMs) = (pattern, 600_000)
      setup.bandwidth = 6 << 20
      setup.cutsMs = [300, 1900, 4000]
      for seed in UInt64(1)...2 {
        let outcome = try #require(setup.run(seed: seed))
        #expect(outcome.violation == nil && outcome.totalMs != nil, "\(method), seed \(seed)")
        #expect(outcome.wireBytes >= setup.byteCount && outcome.requestsPerSecond > 0)
      }
    }
  }

  @Test func theSameSeedIsTheSameRun() throws {
    let setup = setup(.iofollow, .hdd)
    #expect(setup.run(seed: 3) == setup.run(seed: 3))
    #expect(setup.run(seed: 3) != setup.run(seed: 4))
    #expect(DiskMoveSetup(.mirror, disk: .ssd, load: .init(), byteCount: 0).run(seed: 1) == nil)
  }

  /// A copy that isn't whole is found: without the note that a write has been, it isn't.
  @Test func aLossShows() {
    var contents = DiskContents(blockCount: 4)
    #expect(contents.firstDifference == 0)
    contents.arrive(0..<4, [0, 0, 0, 0])
    #expect(contents.firstDifference == nil)
    contents.beginRead(1, 0..<2)
    contents.beginWrite(1..<2)
    contents.endWrite(1..<2, contents.newValue())
    #expect(contents.endRead(1) == [0, DiskContents.torn])
    #expect(contents.firstDifference == 1)
  }

  /// Where the guest is the copier disturbs it less.
  @Test func aGuestThatIsFollowedIsFaster() throws {
    var setup = setup(.precopy)
    (setup.byteCount, setup.load.readPercent, setup.load.thinkUs) = (64 << 20, 95, 0)
    setup.load.requestBlocks = 16
    let precopy = try #require(setup.run(seed: 1))
    setup.method = .iofollow
    let follow = try #require(setup.run(seed: 1))
    #expect(follow.requestsPerSecond > precopy.requestsPerSecond)
  }

  /// Half of the disk is read by its guest, nothing of it stays in memory, and the link is slower than the disk: what the
  /// guest reads the copier doesn't.
  @Test(
    arguments: [
      (.sequential, 25e6), (.uniform, 25e6),
    ] as [(DiskLoadModel.Pattern, Double)])
  func whatTheGuestReadsIsNotReadAgain(
    pattern: DiskLoadModel.Pattern, linkBytesPerSecond: Double
  ) throws {
    var setup = setup(.precopy, .ssd)
    (setup.byteCount, setup.linkBytesPerSecond) = (64 << 20, linkBytesPerSecond)
    setup.cacheBytes = 0
    (setup.load.pattern, setup.load.readPercent, setup.load.requestBlocks) = (pattern, 100, 16)
    (setup.load.clients, setup.load.thinkUs) = (1, 500)
    let precopy = try #require(setup.run(seed: 1))
    setup.method = .iofollow
    let follow = try #require(setup.run(seed: 1))
    #expect(precopy.moveReadBytes >= 64 << 20 && follow.totalMs != nil)
    #expect(follow.moveReadBytes * 10 <= precopy.moveReadBytes * 7, "\(follow) \(precopy)")
    #expect(follow.moveReadBytes <= follow.readBytes && follow.violation == nil)
  }

  @Test func aSeekCostsWhatItsDistanceDoes() throws {
    var random = SplitMix64(seed: 1)
    func us(_ from: Int, _ to: Int, _ model: DiskModel) throws -> UInt64 {
      var device = DiskDevice(model, blockCount: 1 << 20)
      for start in [from, to] {
        device.add(
          DiskRequest(owner: .guest(0), isWrite: false, blocks: start..<start + 1, sinceUs: 0))
      }
      // With one place: the nearer one, which is at the head's start, first.
      let first = try #require(device.begin(nowUs: 0, using: &random))
      device.end()
      let second = try #require(device.begin(nowUs: first.endUs, using: &random))
      return second.endUs - first.endUs
    }
    let next = try us(0, 1, .hdd)
    #expect(next < 200)
    #expect(try us(0, 1 << 19, .hdd) > 10_000)
    #expect(try us(0, 1 << 19, .ssd) < 200)
  }
}
