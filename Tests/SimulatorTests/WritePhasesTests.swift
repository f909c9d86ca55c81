import Base
import Strategy
import Testing

@testable import Simulator

/// Guests that write by turns, and forecasts that say so.
@Suite struct WritePhasesTests {
  private typealias Window = WritePhases.Window

  private func window(_ found: UInt64, of sampled: UInt64 = 16_384, ram: UInt64 = 1 << 18) -> Window
  {
    let estimate = PageEstimate(found: found, of: sampled, ramPages: ram)
    return Window(
      pages: estimate.pages, lowPages: estimate.lowPages, highPages: estimate.highPages)
  }

  /// Of a steady guest few looks find phases, however little it writes.
  @Test(arguments: [3, 30, 300, 3000] as [Int]) func steadyGuestsHaveNone(mean: Int) {
    var noise = Noise(seed: UInt64(mean))
    let found = (0..<300).count { _ in
      let windows = (0..<4).map { _ in
        // As many as chance finds of rare things.
        let count = Double(mean) + Double(mean).squareRoot() * noise.normal()
        return window(UInt64(max(count.rounded(), 0)))
      }
      return WritePhases(windows, windowMs: 1000) != nil
    }
    #expect(found <= 15, "\(found) of 300")
  }

  @Test func turnsAreSeen() throws {
    let phases = try #require(
      WritePhases([1000, 20, 900, 80].map { window($0) }, windowMs: 1000))
    #expect(abs(phases.factors.reduce(0, +) / 4 - 1) < 0.01 && phases.factors.count == 4)
    #expect(phases.factors[0] > 1.9 && (0.04...0.1).contains(phases.factors[1]))
    #expect(WritePhases([0, 0, 0, 0].map { window($0) }, windowMs: 1000) == nil)
    #expect(WritePhases([window(9)], windowMs: 1000) == nil && WritePhases([], windowMs: 1) == nil)
    // Not by half as much again.
    #expect(WritePhases([1000, 1300, 1400, 1100].map { window($0) }, windowMs: 1000) == nil)
    // What came over a socket may be anything.
    let wild = Window(pages: .max, lowPages: .max, highPages: 0)
    let odd = WritePhases([wild, window(1), wild, window(1)], windowMs: .max)
    #expect(odd?.factors.allSatisfy { $0.isFinite && $0 > 0 } ?? true)
  }

  /// A run goes through its phases as long as it takes, and meets the mean in the end.
  @Test func aLongWalkMeetsTheMean() throws {
    let phases = try #require(
      WritePhases([1000, 20, 900, 80].map { window($0) }, windowMs: 1000))
    var noise = Noise(seed: 3)
    var (sum, changes) = (0.0, 0)
    for _ in 0..<50 {
      var walk = WritePhases.Walk(phases, fromMs: 300, noise: &noise)
      var last = walk.factor
      for tick in 0..<4000 {
        walk.move(toMs: 300 + Double(tick) * 50, noise: &noise)
        if walk.factor != last { changes += 1 }
        (sum, last) = (sum + walk.factor, walk.factor)
      }
    }
    #expect(abs(sum / 200_000 - 1) < 0.1, "\(sum / 200_000)")
    // 200 s in phases of 1 to 16 s, one of four times the same again.
    #expect((1000...4500).contains(changes), "\(changes)")
  }

  /// A guest that works for three seconds and rests for three, looked at for four from any instant on and then moved.
  private func moved(from offsetMs: UInt64) -> (GuestProfile, SimulationSetup) {
    let (halfMs, quiet, ram) = (3000 as UInt64, 0.05, 65_536 as UInt64)
    let (pages, rate) = (30_000.0, 20_000.0)
    func speed(_ ms: UInt64) -> Double { ms / halfMs % 2 == 0 ? 1 : quiet }
    func dirtied(_ fromMs: UInt64, _ toMs: UInt64) -> UInt64 {
      let writes = stride(from: fromMs, to: toMs, by: 50).reduce(0.0) { $0 + speed($1) * rate / 20 }
      return UInt64(pages * (1 - Mathematics.decay(writes / pages)))
    }
    func mean(_ windowMs: UInt64) -> UInt64 {
      let starts = Array(stride(from: offsetMs, to: offsetMs + 4000, by: Int(windowMs)))
      return starts.reduce(0) { $0 + dirtied($1, $1 + windowMs) } / UInt64(starts.count)
    }
    var profile = GuestProfile(
      ramPages: ram, vcpuCount: 2,
      dirtyCurve: [250, 500, 1000, 2000, 4000].map { .init(windowMs: $0, pages: mean($0)) })
    let windows = (0..<4 as Range<UInt64>).map { number in
      let found = dirtied(offsetMs + number * 1000, offsetMs + (number + 1) * 1000)
      return window(found / 4, of: ram / 4, ram: ram)
    }
    profile.writePhases = WritePhases(windows, windowMs: 1000)
    var guest = GuestModel(
      groups: [
        PageGroup(pages: pages, writesPerSecond: rate), PageGroup(pages: Double(ram) - pages),
      ], vcpuCount: 2)
    // What is left of the phase that the move begins in, then the others in turn.
    let leftMs = halfMs - (offsetMs + 4000) % halfMs
    let (first, second) = (speed(offsetMs + 4000), speed(offsetMs + 4000 + leftMs))
    guest.phases = [GuestPhase(lengthMs: leftMs, factors: [first, 1])]
    for _ in 0..<20 {
      guest.phases.append(GuestPhase(lengthMs: halfMs, factors: [second, 1]))
      guest.phases.append(GuestPhase(lengthMs: halfMs, factors: [first, 1]))
    }
    return (profile, SimulationSetup(.hotpages, guest, LinkModel(bytesPerSecond: 50e6)))
  }

  /// How many of the moves, begun at any time, end within the band that was foretold.
  private func held(withPhases: Bool) -> Int {
    (0..<40 as Range<UInt64>).count { number in
      var (profile, setup) = moved(from: number * 150)
      if !withPhases { profile.writePhases = nil }
      let forecast = MigrationForecast(
        profile, link: setup.link, constraints: setup.constraints, canPull: false, penBytes: nil,
        strategies: [setup.strategy], runs: 40)
      setup.guestSpread = 0
      let total = Simulation.run(setup, seed: number).totalMs
      return forecast.rows[0].totalMs.map { ($0.low...$0.high).contains(total) } ?? false
    }
  }

  @Test func bandsHoldWhatTurnsMakeOfMoves() {
    let (with, without) = (held(withPhases: true), held(withPhases: false))
    #expect(with >= 34 && with > without, "\(with) and \(without) of 40")
  }
}
