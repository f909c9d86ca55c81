import Base
import Strategy
import Testing

@testable import Simulator

@Suite struct ForecastTests {
  static let windows: [UInt64] = [100, 300, 1000, 3000, 10_000]

  private func curve(_ guest: GuestModel) -> [GuestProfile.Point] {
    Self.windows.map { window in
      let pages = guest.groups.reduce(0.0) { sum, group in
        let hits = group.writesPerSecond / max(group.pages, 1) * Double(window) / 1000
        return sum + group.pages * (1 - Mathematics.decay(hits))
      }
      return GuestProfile.Point(windowMs: window, pages: UInt64(pages))
    }
  }

  @Test(arguments: [(200, 45_000.0), (100, 9_000), (20, 200)] as [(UInt64, Double)])
  func aProfileGivesBackItsCurve(mebibytes: UInt64, rate: Double) {
    let original = GuestModel.hotSet(
      .init(ram: .mebibytes(768)), workingSet: .mebibytes(mebibytes), pagesPerSecond: rate)
    let profile = GuestProfile(ramPages: 196_608, dirtyCurve: curve(original))
    let fitted = profile.model
    #expect(abs(fitted.ramPages - 196_608) < 1)
    for (a, b) in zip(curve(fitted), curve(original)) {
      let error = (Double(a.pages) - Double(b.pages)) / Double(b.pages)
      #expect(abs(error) < 0.03, "\(a.windowMs) ms: \(a.pages) for \(b.pages)")
    }
  }

  @Test func nonsenseCurvesMakeAGuestAllTheSame() {
    for curve: [GuestProfile.Point] in [
      [], [.init(windowMs: 0, pages: 9)], [.init(windowMs: 100, pages: 0)],
      [.init(windowMs: 1000, pages: 500), .init(windowMs: 2000, pages: 3)],
      [.init(windowMs: 1, pages: .max)],
    ] {
      let model = GuestProfile(ramPages: 1000, zeroPermille: 5000, dirtyCurve: curve).model
      #expect(abs(model.ramPages - 1000) < 1 && model.groups.allSatisfy { $0.pages >= 0 })
    }
  }

  @Test func whatTheDestinationHasCostsAReference() {
    var profile = GuestProfile(
      ramPages: 100_000, zeroPermille: 200,
      dirtyCurve: [.init(windowMs: 1000, pages: 5000), .init(windowMs: 4000, pages: 10_000)])
    let before = profile.model
    (profile.heldPages, profile.namedPages) = (20_000, 30_000)
    let model = profile.model
    #expect(abs(model.ramPages - 100_000) < 1)
    let saved =
      20_000 * (GuestModel.rawBytes - GuestModel.heldBytes)
      + 30_000 * (GuestModel.rawBytes - GuestModel.namedBytes)
    #expect(abs(before.wireBytes - model.wireBytes - saved) < 1)
    // What the guest writes is sent, and zeros are zeros.
    profile.namedPages = .max
    let all = profile.model
    #expect(abs(all.ramPages - 100_000) < 1)
    let written = all.groups.filter { $0.writesPerSecond > 0 }.reduce(0) { $0 + $1.pages }
    #expect(written > 9000 && all.wireBytes > written * GuestModel.rawBytes)
  }

  /// A guest that is sent before the link was ever full for long ends as surely as others.
  @Test(arguments: [0, 40, 4000] as [UInt64])
  func smallGuestsEnd(dirtiedPages: UInt64) {
    let profile = GuestProfile(
      ramPages: 16_384, zeroPermille: 800, dirtyCurve: [.init(windowMs: 1000, pages: dirtiedPages)])
    let forecast = MigrationForecast(
      profile, link: LinkModel(bytesPerSecond: 125e6), constraints: MigrationConstraints(),
      canPull: true, penBytes: nil, runs: 10)
    for row in forecast.rows {
      #expect(row.completes == 1, "\(row.strategy): \(row)")
      #expect((row.totalMs?.high ?? .infinity) < 3000, "\(row.strategy): \(row)")
    }
  }

  /// The band of a forecast from a measured curve holds what the guest itself then does.
  @Test func bandsHoldTheOutcomes() {
    let link = LinkModel(bytesPerSecond: 125e6)
    let guest = GuestModel.hotSet(
      .init(ram: .mebibytes(768)), workingSet: .mebibytes(150), pagesPerSecond: 20_000)
    let profile = GuestProfile(ramPages: 196_608, vcpuCount: 4, dirtyCurve: curve(guest))
    let forecast = MigrationForecast(
      profile, link: link, constraints: MigrationConstraints(), canPull: false, penBytes: nil,
      strategies: [.hotpages, .adaptive, .timebound], runs: 40)
    for name in [.hotpages, .adaptive, .timebound] as [StrategyName] {
      let row = forecast.rows.first { $0.strategy == name }
      let setup = SimulationSetup(name, guest, link)
      let inside = (100..<140 as Range<UInt64>).count { seed in
        let total = Simulation.run(setup, seed: seed).totalMs
        return row.flatMap(\.totalMs).map { ($0.low...$0.high).contains(total) } ?? false
      }
      #expect(inside >= 30, "\(name): \(inside) of 40")
    }
  }

  @Test func autoSaysWhatItTakesAndWhy() throws {
    let profile = GuestProfile(
      ramPages: 196_608, vcpuCount: 4,
      dirtyCurve: [.init(windowMs: 100, pages: 5_000), .init(windowMs: 1000, pages: 40_000)])
    let link = LinkModel(bytesPerSecond: 125e6)
    let forecast = MigrationForecast(
      profile, link: link, constraints: MigrationConstraints(), canPull: true,
      strategies: [.auto, .dsm], runs: 5)
    let auto = try #require(forecast.rows.first { $0.strategy == .auto })
    #expect(auto.acting == .dsm && auto.meets == 1)
    #expect(forecast.reason?.contains("can pull") == true)
    let late = MigrationForecast(
      profile, link: link, constraints: MigrationConstraints(withinMs: 1000), canPull: false,
      runs: 3)
    #expect(late.rows.allSatisfy { $0.refusal != nil && $0.meets == 0 && $0.totalMs == nil })
  }
}
