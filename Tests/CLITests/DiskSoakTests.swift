import Base
import Foundation
import Testing

/// Moves of a disk in use, by each method, in which anything dies at any instant: kill -9 of either server, of the
/// surrogate's and of the backup's, and breaks of the link. Whatever it was, a client reads what it wrote last at any
/// time, and in the end both images hold it, sector by sector.
///
/// A run is drawn from its seed; `scripts/soak-disks` has many.
@Suite(
  .serialized,
  .enabled(if: CommandProcess.binary != nil, "no built godwit: run `swift build` first"))
struct DiskSoakTests {
  private static let methods = ["precopy", "mirror", "iofollow", "waio", "snapmig", "incremental"]
  static let variable = "GODWIT_SOAK_SEEDS"
  /// `FIRST-LAST` from the environment; two of them otherwise.
  static let seeds: [UInt64] = {
    let ends = (ProcessInfo.processInfo.environment[variable] ?? "")
      .split(separator: "-").compactMap { UInt64($0) }
    guard ends.count == 2, ends[0] <= ends[1], ends[1] - ends[0] < 100_000 else { return [3, 4] }
    return Array(ends[0]...ends[1])
  }()

  private enum Trouble: Hashable {
    case kill(DiskSoakRig.Place)
    case cut
  }

  @Test(.timeLimit(.minutes(6)), arguments: DiskSoakTests.seeds)
  func everythingFails(seed: UInt64) async throws {
    var random = SplitMix64(seed: seed)
    let method = Self.methods[Int(seed % UInt64(Self.methods.count))]
    var rig = try await DiskSoakRig(method)
    let troubles = DiskSoakRig.places(method).map { Trouble.kill($0) } + [.cut]
    for life in 0..<5 {
      let load = try await CheckedLoad(
        at: rig.socket(.source), rig.disk, seed: seed &* 100 &+ UInt64(life))
      try await rig.move()
      try await Task.sleep(for: .milliseconds(100 + random.next() % 900))
      let trouble = troubles[Int(random.next() % UInt64(troubles.count))]
      switch trouble {
      case .cut: rig.cut()
      case .kill(let place):
        await rig.kill(place)
        try await Task.sleep(for: .milliseconds(random.next() % 400))
        try await rig.start(place)
      }
      if trouble != .kill(.source) { try await Task.sleep(for: .milliseconds(random.next() % 800)) }
      load.stop()
      rig.disk = await load.end()
      let found = try await rig.disk.check(at: rig.socket(.source), whole: true)
      #expect(found == nil, "seed \(seed), \(method), life \(life), \(trouble)")
    }
    #expect(!rig.disk.written.isEmpty)
    try await rig.finish()
    try await rig.compare()
  }
}
