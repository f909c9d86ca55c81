import Agent
import Base
import Foundation
import Testing

@testable import Lab

@Suite struct DiskScenarioTests {
  static let text = """
    name = "disks"
    kind = "disk"
    methods = ["iofollow", "qemu-mirror"]
    rounds = 2
    [link]
    rate = "200Mbit"
    latency = "20ms"
    competing = "50Mbit"
    [[disk]]
    name = "a"
    size = "64MiB"
    count = 2
    backups = 3
    deviceOperations = 400
    deviceRate = "40MiB/s"
    [disk.load]
    operations = 100
    depth = 2
    writePercent = 70
    block = "16KiB"
    pattern = "sequential"
    [[disk]]
    name = "b"
    size = "16MiB"
    """

  @Test func aFile() throws {
    let scenario = try MatrixScenario.parse(Self.text, path: "x.toml")
    #expect(scenario.kind == .disk && scenario.subjects == ["a", "b"])
    #expect(scenario.link?.bytesPerSecond == 25_000_000)
    #expect(scenario.competing?.bytesPerSecond == 6_250_000 && scenario.linkLatencyMs == 20)
    #expect(scenario.methods == [.disk(.iofollow), .disk(.qemuMirror)])
    let (first, second) = (scenario.disks[0], scenario.disks[1])
    #expect(first.byteCount == 64 << 20 && first.count == 2 && first.backupCount == 3)
    #expect(first.isLimited && first.deviceOperationsPerSecond == 400)
    #expect(first.deviceBytesPerSecond == 40 << 20 && first.blockCount == 4096)
    #expect(first.load.depth == 2 && first.load.writePercent == 70)
    #expect(first.load.pattern == .sequential && first.load.operationsPerSecond == 100)
    #expect(second.load == MatrixDisk.Load() && !second.isLimited)
    let cells = MatrixPlan.cells(scenario)
    #expect(cells.count == 2 * 2 * 2)
    #expect(Set(cells.map(\.method.name)) == ["iofollow", "qemu-mirror"])
  }

  @Test(arguments: [
    ("\"iofollow\"", "\"godwit-precopy\"", "does not move a disk"),
    ("kind = \"disk\"", "kind = \"guest\"", "guest"),
    ("kind = \"disk\"", "kind = \"tape\"", "tape"),
    ("\"iofollow\"", "\"iofollow+fast\"", "[tuning.fast]"),
    ("size = \"64MiB\"", "size = \"100KiB\"", "whole MiB"),
    ("size = \"64MiB\"\n", "", "size"),
    ("block = \"16KiB\"", "block = \"5KiB\"", "power of two"),
    ("block = \"16KiB\"", "block = \"12KiB\"", "power of two"),
    ("writePercent = 70", "writePercent = 170", "0...100"),
    ("deviceRate = \"40MiB/s\"", "deviceRate = \"slow\"", "slow"),
    ("latency = \"20ms\"", "latency = \"2s\"", "up to 1s"),
    ("competing = \"50Mbit\"", "competing = \"some\"", "some"),
    ("name = \"b\"", "name = \"a\"", "twice"),
    ("rounds = 2", "rounds = 2\nreturnAfter = \"5s\"", "kind"),
    ("backups = 3", "device = \"tape\"", "tape"),
    ("backups = 3", "device = \"hdd\"", "own limits"),
    ("backups = 3", "changed = \"1MiB\"", "limits"),
    ("name = \"b\"", "name = \"b\"\nchanged = \"9MiB\"", "half"),
    ("depth = 2", "used = 0", "1...100"),
  ])
  func aMistakeIsNamed(right: String, wrong: String, word: String) throws {
    let text = Self.text.replacingOccurrences(of: right, with: wrong)
    #expect(text != Self.text)
    let error = try #require(throws: ConfigurationError.self) {
      try MatrixScenario.parse(text, path: "x.toml")
    }
    #expect(error.description.contains(word), "\(error)")
  }

  /// Controls, a drive with a head, and a mirror that is slowed.
  @Test func aDriveAndItsControls() throws {
    let text = """
      name = "heads"
      kind = "disk"
      methods = ["none", "waio", "waio-idle", "mirror+slow", "qemu-mirror+slow"]
      tuning.slow.diskRate = "3MiB/s"
      [[disk]]
      name = "a"
      size = "64MiB"
      device = "hdd"
      changed = "2MiB"
      load = { hot = "1MiB", used = 50 }
      """
    let scenario = try MatrixScenario.parse(text, path: "x.toml")
    let disk = scenario.disks[0]
    #expect(disk.hasHead && disk.isLimited && !disk.isThrottled)
    #expect(disk.changedByteCount == 2 << 20 && disk.usedBlockCount == 8192)
    #expect(disk.hotBlockCount == 256)
    #expect(
      scenario.methods.map(\.name) == [
        "none", "waio", "waio-idle", "mirror+slow", "qemu-mirror+slow",
      ])
    let slow = try #require(scenario.methods.last)
    #expect(slow == .disk(.qemuMirror, tuning: "slow") && slow.kind == "qemu")
    #expect(try scenario.tuning(of: slow).diskBytesPerSecond == 3 << 20)
    #expect([DiskMethod.still, .waioIdle].allSatisfy(\.isStill) && !DiskMethod.waio.isStill)
    let mistakes = [
      ("\"none\"", "\"none+slow\"", "nothing moves"), ("3MiB/s", "1KiB/s", "64KiB/s"),
      ("slow.diskRate", "slow.gang = true\ntuning.slow.diskRate", "no other setting"),
    ]
    for (right, wrong, word) in mistakes {
      let error = try #require(throws: ConfigurationError.self) {
        try MatrixScenario.parse(
          text.replacingOccurrences(of: right, with: wrong), path: "x.toml")
      }
      #expect(error.description.contains(word), "\(error)")
    }
    var guest = MethodTuning()
    guest.diskBytesPerSecond = 1 << 20
    #expect(guest.problem(with: .godwit) != nil && guest.problem(with: .qemu) != nil)
  }

  /// The same set-up with nothing moving stands beside each method; more requests are better there.
  @Test func theControls() throws {
    let results = (0..<3).flatMap { round in
      [
        Self.result("none", round: round), Self.result("waio-idle", round: round, medianUs: 150),
        Self.result("waio", round: round, medianUs: 450),
      ]
    }
    let comparison = try #require(MatrixComparison.all(results).first)
    #expect(comparison.estimate(.rate, "none")?.median == 799)
    let table = try #require(ReportTable.controlRatios(comparison))
    #expect(table.rows.map(\.name) == ["waio", "waio-idle", "waio to waio-idle"])
    #expect(
      table.rows.map { $0.cells[1].text } == [
        "1.50 [1.50, 1.50]", "0.50 [0.50, 0.50]", "3.00 [3.00, 3.00]",
      ])
    #expect(table.rows.allSatisfy { $0.cells[0].ratio == nil && $0.cells[1].ratio != nil })
    // They are no way to move a disk, and those that were watched together have not been moved together.
    let rival = Self.result("qemu-mirror")
    let whole = try #require(MatrixComparison.all(results + [rival]).first)
    #expect(ReportTable.ratios(whole)?.rows.map(\.name) == ["waio"])
    var still = Self.result("none")
    still.record.totalMs = nil
    still.lab.together = Together(count: 2, member: 0, totalMs: nil, wireBytes: 0)
    #expect(MatrixFigure.together.value(still) == nil && MatrixFigure.total.value(still) == nil)
    still.record.outcome = .failed
    #expect(MatrixFigure.together.value(still) == .infinity)
    let without = results.filter { $0.lab.method == "waio" }
    #expect(try ReportTable.controlRatios(#require(MatrixComparison.all(without).first)) == nil)
  }

  /// A goal for each phase is held against the worse one.
  @Test func theWorsePhase() throws {
    var result = Self.result("waio")
    #expect(MatrixFigure.phaseSlower.value(result) == nil)
    let requests = (1...1000).map { Latency.Request(endUs: UInt64($0) * 1000, tookUs: 150) }
    let phases = DiskMeasures.Phases(
      original: Latency(requests, fromUs: 1, toUs: 500_001),
      surrogate: Latency(requests, fromUs: 500_001, toUs: 1_125_626))
    result.lab.disk?.phases = phases
    #expect(MatrixFigure.phaseSlower.value(result) == 21)
    #expect(MatrixFigure.phaseTail.value(result) == 150)
    #expect(MatrixFigure.phaseSlower.text(21) == "21 %" && MatrixFigure.rate.text(799) == "799/s")
    let line = try JSONLine.encode(result)
    #expect(try JSONLine.decode(MatrixResult.self, from: line.utf8) == result)
    // Of a version that knew neither phases nor drives.
    let older = line.replacing(/,"phases":\{.*?\}\}/, with: "").replacing(
      ",\"device\":null", with: "")
    #expect(older.utf8.count + 100 < line.utf8.count)
    #expect(try JSONLine.decode(MatrixResult.self, from: older.utf8).lab.disk?.phases == nil)
  }

  @Test func aGuestsDiskMoves() throws {
    let text = """
      name = "x"
      methods = ["qemu-precopy"]
      [[guest]]
      name = "idle"
      disk = { moves = true }
      [[guest]]
      name = "busy"
      disk = { moves = true, size = "16MiB" }
      [[guest]]
      name = "shared"
      disk = { size = "16MiB" }
      """
    let guests = try MatrixScenario.parse(text, path: "x.toml").guests
    #expect(guests.map(\.movesDisk) == [true, true, false])
    #expect(guests.map { $0.specification.workload.disk?.sizeMiB } == [nil, 16, 16])
    let back = text.replacingOccurrences(
      of: "name = \"x\"", with: "name = \"x\"\nreturnAfter = \"5s\"")
    #expect(throws: ConfigurationError.self) { try MatrixScenario.parse(back, path: "x.toml") }
    let none = text.replacingOccurrences(of: "{ moves = true }", with: "{ moves = false }")
    #expect(throws: ConfigurationError.self) { try MatrixScenario.parse(none, path: "x.toml") }
  }

  /// What its server is told, and that it has one.
  @Test func aServedDisksMethod() throws {
    let text = """
      name = "x"
      methods = ["qemu-precopy", "godwit-precopy+follow"]
      tuning.follow.diskMethod = "iofollow"
      [[guest]]
      name = "busy"
      disk = { moves = true, served = true, size = "16MiB", scan = true }
      [[guest]]
      name = "idle"
      disk = { moves = true, served = true }
      """
    let scenario = try MatrixScenario.parse(text, path: "x.toml")
    #expect(scenario.guests.map(\.servesDisk) == [true, true])
    #expect(scenario.guests.map { $0.specification.workload.disk?.isScanned } == [true, nil])
    let tuned = try #require(scenario.methods.last)
    #expect(try scenario.tuning(of: tuned).diskMethod == .iofollow)
    let mistakes = [
      ("served = true }", "served = false }", "idle"), ("moves = true, s", "s", "served"),
      ("iofollow", "snapmig", "waio"), ("godwit-precopy+", "qemu-precopy+", "QEMU alone"),
    ]
    for (right, wrong, word) in mistakes {
      let error = try #require(throws: ConfigurationError.self) {
        try MatrixScenario.parse(
          text.replacingOccurrences(of: right, with: wrong), path: "x.toml")
      }
      #expect(error.description.contains(word), "\(error)")
    }
  }

  /// A result of a disk that was moved alone.
  static func result(
    _ method: String, round: Int = 0, isDone: Bool = true, medianUs: UInt32 = 300
  ) -> MatrixResult {
    MatrixResultTests.result(method, round: round, totalMs: isDone ? 5000 : nil) { result in
      result.record.method = method.hasPrefix("qemu") ? "qemu" : "godwit"
      (result.record.downtimeMs, result.record.clientGapMs) = (nil, 40)
      result.record.disk.bytesReadAtSource = 64 << 20
      var measures = DiskMeasures(MatrixDisk(name: "g", byteCount: 64 << 20))
      let requests = (1...1000).map { number in
        Latency.Request(endUs: UInt64(number) * 1000, tookUs: number <= 500 ? 100 : medianUs)
      }
      measures.before = Latency(requests, fromUs: 1, toUs: 500_001)
      measures.during = Latency(requests, fromUs: 500_001, toUs: 1_125_626)
      result.lab.disk = measures
    }
  }

  @Test func whenAPulledDiskIsServed() throws {
    let pulled = { (isDone: Bool) in
      var result = Self.result("pull", isDone: isDone)
      let served = MovedDisk.Served(fromUs: 1_250_999, faults: 7, faultMeanUs: 40)
      result.lab.disk?.pull = .init(served, startUs: 1_000_000)
      return result
    }
    #expect(MatrixFigure.served.value(pulled(true)) == 250)
    // Also where the rest never came.
    #expect(MatrixFigure.served.value(pulled(false)) == 250)
    #expect(MatrixFigure.served.value(Self.result("mirror")) == nil)
    let lines = MatrixTable.lines([pulled(true), Self.result("mirror")])
    #expect(lines.contains { $0.contains("SERVED AFTER") && $0.contains("DISK READ") })
    #expect(!MatrixTable.lines([Self.result("mirror")]).contains { $0.contains("SERVED AFTER") })
    let line = try JSONLine.encode(pulled(true))
    #expect(line.contains("\"servedMs\":250") && line.contains("\"faultMaxUs\":null"))
    #expect(try JSONLine.decode(MatrixResult.self, from: line.utf8) == pulled(true))
    // Of a version that knew no pulls.
    let older = line.replacing(/,"pull":\{[^}]*\}/, with: "")
    #expect(older != line)
    #expect(try JSONLine.decode(MatrixResult.self, from: older.utf8).lab.disk?.pull == nil)
  }

  @Test(
    arguments: [
      (999, "999 us"), (1000, "1 ms"), (3496, "3.5 ms"), (12_500, "12.5 ms"), (99_940, "99.9 ms"),
      (99_950, "100 ms"), (431_400, "431 ms"),
    ] as [(Double, String)])
  func latenciesAsWords(microseconds: Double, text: String) {
    #expect(MatrixFigure.latency.text(microseconds) == text)
  }

  @Test func theTable() throws {
    let results = (0..<3).flatMap { round in
      [
        Self.result("iofollow", round: round),
        Self.result("qemu-mirror", round: round, medianUs: 600),
        Self.result("waio", round: round, isDone: false),
      ]
    }
    let comparison = try #require(MatrixComparison.all(results).first)
    #expect(comparison.figures.contains(.latency) && comparison.figures.contains(.reads))
    for figure in [MatrixFigure.downtime, .back, .lost, .memory] {
      #expect(!comparison.figures.contains(figure))
    }
    #expect(comparison.estimate(.latency, "iofollow")?.median == 300)
    #expect(comparison.estimate(.slower, "iofollow")?.median == 21)
    #expect(comparison.ratio(.latency, "iofollow", to: "qemu-mirror")?.median == 0.5)
    #expect(comparison.estimate(.total, "waio")?.median == .infinity)
    let lines = MatrixTable.lines(results)
    #expect(lines.first == "g, QEMU 10.0.2: 1000 requests/s before, half within 100 us")
    #expect(lines.contains { $0.contains("DISK READ") && !$0.contains("DOWNTIME") })
    // The foot explains the columns that are there.
    #expect(lines.contains { $0.hasPrefix("DISK READ: ") })
    #expect(!lines.contains { $0.hasPrefix("DOWNTIME: ") || $0.hasPrefix("SERVED AFTER: ") })
    let page = ReportPage(results, title: "t")
    #expect(page.plots.contains { $0.name.hasSuffix("-latency") })
    let trade = try #require(page.plots.first { $0.name.hasSuffix("-trade") })
    // waio was not done: it has no place in it.
    #expect(trade.file.ranges(of: "<circle").count == 2 && !trade.file.contains("waio"))
    #expect(trade.file.contains(">iofollow</text>"))
    let line = try JSONLine.encode(results[0])
    #expect(try JSONLine.decode(MatrixResult.self, from: line.utf8) == results[0])
  }
}
