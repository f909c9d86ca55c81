import Agent
import Base
import Foundation
import HostIO
import Testing

@testable import Lab

/// Disks that move alone while clients read and write them; what clients read is checked, and so is the copy.
@Suite(.serialized, .needsEquipment)
struct DiskExperimentTests {
  private func results(_ methods: String, _ disk: String) async throws -> [MatrixResult] {
    let text = """
      name = "tiny"
      kind = "disk"
      methods = [\(methods)]
      rounds = 1
      warmUp = "300ms"
      [link]
      rate = "1Gbit"
      competing = "100Mbit"
      [[disk]]
      name = "d"
      size = "16MiB"
      \(disk)
      """
    var common = LabOptions()
    common.godwitProgram = Equipment.program
    let run = MatrixRun(
      try MatrixScenario.parse(text, path: "tiny.toml"), MatrixSelection(), common: common,
      results: nil, observer: SilentObserver())
    let summary = try await run.run { _ in }
    #expect(summary.undone.map(\.reason) == [])
    for result in summary.results {
      #expect(
        result.isDone && result.isIntact, "\(result.record.reason ?? "") \(result.lab.damage)")
      #expect(result.record.audit.pagesCompared == 4096 && result.record.audit.pagesDiffering == 0)
      let disk = try #require(result.lab.disk)
      // 15 are due where there are fewest, and a busy machine is late.
      #expect(try #require(disk.before).requests > 3 && disk.wrongReads == 0)
      #expect(try #require(disk.during).requests > 0)
      #expect(try #require(result.lab.competingBytesPerSecond) > 100_000)
      // Of all disks together: once.
      guard result.lab.together?.member ?? 0 == 0 else { continue }
      let cost = try #require(result.lab.cost)
      #expect(cost.sourceServerMs != nil && cost.destinationServerMs != nil)
      #expect(cost.sourceQEMUMs == nil && cost.sourceAgentMs == nil)
    }
    return summary.results
  }

  @Test(.timeLimit(.minutes(3))) func everyWayKeepsWhatClientsWrote() async throws {
    let results = try await results(
      "\"precopy\", \"mirror\", \"iofollow\", \"waio\", \"qemu-mirror\", \"qemu-mirror-write-blocking\"",
      "load = { operations = 200, block = \"16KiB\" }")
    #expect(results.count == 6)
    for result in results {
      #expect(try #require(result.record.wireBytes) > 16 << 20)
      #expect(result.record.disk.movedBytes == 16 << 20)
    }
    // The image is in the page cache: what of it came from the device QEMU can't tell.
    #expect(results.filter { $0.record.disk.bytesReadAtSource == nil }.count == 2)
  }

  /// An older copy at the destination; clients that are there before their data.
  @Test(.timeLimit(.minutes(3))) func whatTheDestinationHasAndWhatItFetches() async throws {
    let results = try await results(
      "\"incremental\", \"pull\"", "load = { operations = 200, block = \"16KiB\" }")
    #expect(results.count == 2)
    for result in results {
      let (record, disk) = (result.record, try #require(result.lab.disk))
      let wireBytes = try #require(record.wireBytes)
      if result.lab.method == "incremental" {
        #expect(wireBytes < 14 << 20 && disk.pull == nil)
        #expect(try #require(disk.skippedBytes) > 4 << 20)
      } else {
        #expect(wireBytes > 8 << 20 && disk.skippedBytes == nil)
        let pull = try #require(disk.pull)
        #expect(pull.servedMs <= (try #require(record.totalMs)))
      }
    }
  }

  /// Two disks on slow devices, and two backups that have them as they were.
  @Test(.timeLimit(.minutes(3))) func backupsSpareASlowDevice() async throws {
    let results = try await results(
      "\"precopy\", \"snapmig\", \"qemu-mirror\"",
      """
      count = 2
      backups = 2
      deviceRate = "20MiB/s"
      load = { operations = 50 }
      """)
    #expect(results.count == 6)
    for result in results {
      let readBytes = try #require(result.record.disk.bytesReadAtSource)
      #expect((readBytes < 8 << 20) == (result.lab.method == "snapmig"), "\(readBytes)")
      let backupBytes = result.lab.disk?.backupBytes
      #expect((backupBytes ?? 0 > 8 << 20) == (result.lab.method == "snapmig"))
      #expect(result.lab.together?.count == 2)
    }
  }

  /// A drive with a head: the controls have nothing to move and their disk is whole, whoever moves it has it from the same
  /// drive, and one who is slowed takes as long as it says.
  @Test(.timeLimit(.minutes(3))) func aDriveWithAHead() async throws {
    let results = try await results(
      """
      "none", "waio", "waio-idle", "mirror", "mirror+slow", "qemu-mirror+slow", "snapmig"
      """,
      """
      device = "hdd"
      changed = "512KiB"
      load = { hot = "256KiB", depth = 4 }
      [tuning.slow]
      diskRate = "4MiB/s"
      """)
    #expect(results.count == 7)
    func result(_ method: String) throws -> MatrixResult {
      try #require(results.first { $0.lab.method == method })
    }
    for result in results {
      #expect((result.record.totalMs == nil) == ["none", "waio-idle"].contains(result.lab.method))
      let before = try #require(result.lab.disk?.before)
      // Most of what it does is seeking: nothing else is as slow.
      #expect(before.medianUs > 3000 && before.perSecond < 1000 && result.lab.disk?.device == "hdd")
    }
    for method in ["mirror+slow", "qemu-mirror+slow"] {
      #expect(try #require(try result(method).record.totalMs) > 2500)
    }
    #expect(try #require(try result("snapmig").record.disk.bytesReadAtSource) < 8 << 20)
    let phases = try #require(try result("waio").lab.disk?.phases)
    #expect(try #require(phases.original).requests > 0)
  }
}
