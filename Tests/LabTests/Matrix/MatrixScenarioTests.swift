import Agent
import Base
import Foundation
import QMP
import Strategy
import Testing

@testable import Lab

@Suite struct MatrixScenarioTests {
  static let small = """
    name = "small"
    link = "200Mbit"
    qemu = ["newest", "/opt/qemu"]
    methods = ["qemu-xbzrle", "godwit-precopy"]
    rounds = 2
    timeout = "30s"
    [[guest]]
    name = "a"
    memory = "512MiB"
    cpus = 2
    hot = "64MiB"
    dirty = 1.5
    pattern = "hotspot"
    change = 64
    [[guest]]
    name = "b"
    dirty = "20MiB/s"
    hot = "0"
    memcached = "128MiB"
    [guest.clients]
    connections = 4
    keys = 4000
    pattern = "zipf"
    batch = 8
    pause = "5ms"
    """

  @Test func aFile() throws {
    let scenario = try MatrixScenario.parse(Self.small, path: "x.toml")
    #expect(scenario.name == "small" && scenario.rounds == 2 && scenario.timeoutMs == 30_000)
    #expect(scenario.link?.bytesPerSecond == 25_000_000)
    #expect(scenario.qemus == ["newest", "/opt/qemu"])
    #expect(scenario.methods == [.rival(.xbzrle), .strategy("precopy")])
    let (first, second) = (scenario.guests[0], scenario.guests[1])
    // 1.5 times 25 MB/s, in whole MiB/s.
    #expect(first.specification.workload.dirtyMiBPerSecond == 35)
    #expect(first.specification.workload.pattern == .hotspot)
    #expect(first.specification.workload.changeBytes == 64)
    #expect(first.specification.memcachedMiB == nil)
    #expect(first.specification.cpus == 2)
    // Nothing to write: not asked to write 20 MiB/s of it.
    #expect(second.specification.workload.dirtyMiBPerSecond == 0)
    #expect(second.specification.workload.hotMiB == 0)
    #expect(second.specification.memcachedMiB == 128)
    #expect(second.clients.keysPerConnection == 1000 && second.clients.batch == 8)
    #expect(second.clients.pattern == .zipf && second.clients.fillsFirst)
    #expect(second.clients.pauseMs == 5)
  }

  @Test func kernelsDisksAndSeveralGuests() throws {
    let text = """
      name = "x"
      methods = ["qemu-precopy"]
      [[guest]]
      name = "k"
      count = 4
      kernel = "mg"
      class = "W"
      copies = 2
      disk = { size = "32MiB", block = "64KiB", operations = 200, writePercent = 70, compute = 30 }
      """
    let guest = try #require(try MatrixScenario.parse(text, path: "x.toml").guests.first)
    let kernel = try #require(guest.specification.workload.kernel)
    #expect(guest.count == 4 && kernel.name == .mg && kernel.size == .workstation)
    #expect(kernel.copies == 2)
    let words = guest.specification.workload.arguments(memoryMiB: 1)
    #expect(words.suffix(8).prefix(3) == ["kernel=mg", "class=W", "copies=2"])
    #expect(
      words.suffix(5) == ["disk=32", "block=64", "operations=200", "writes=70", "compute=30"])
    for (right, wrong) in [
      ("\"mg\"", "\"lu\""), ("\"W\"", "\"Z\""), ("count = 4", "count = 17"),
      ("writePercent = 70", "writePercent = 101"), ("copies = 2", "copies = 0"),
      ("count = 4", "count = 4\nmemcached = \"64MiB\""), ("size = \"32MiB\", ", ""),
    ] {
      #expect(throws: ConfigurationError.self, "\(wrong)") {
        try MatrixScenario.parse(text.replacingOccurrences(of: right, with: wrong), path: "x.toml")
      }
    }
    var specification = guest.specification
    specification.workload.disk?.sizeMiB = 60
    #expect(throws: LabError.self) { try specification.validate() }
  }

  @Test func aTuning() throws {
    let text =
      Self.small.replacingOccurrences(of: "\"qemu-xbzrle\"", with: "\"qemu-xbzrle+big\"") + """

        [tuning.big]
        downtime = "100ms"
        parameters = { xbzrle-cache-size = 1073741824, tls-creds = "", cpu-throttle-tailslow = true }
        capabilities = { zero-blocks = true }
        """
    let scenario = try MatrixScenario.parse(text, path: "x.toml")
    let tuning = try scenario.tuning(of: .rival(.xbzrle, tuning: "big"))
    #expect(tuning.downtimeLimitMs == 100)
    #expect(tuning.capabilities == ["zero-blocks": true])
    #expect(
      tuning.parameters == [
        "xbzrle-cache-size": 1_073_741_824, "tls-creds": "", "cpu-throttle-tailslow": true,
      ])
    #expect(try scenario.tuning(of: .rival(.xbzrle)) == MethodTuning())
    #expect(throws: LabError.self) { try scenario.tuning(of: .strategy("precopy", tuning: "big")) }
    #expect(throws: LabError.self) { try scenario.tuning(of: .rival(.precopy, tuning: "small")) }
    #expect(throws: ConfigurationError.self) {
      let wrong = text.replacingOccurrences(of: "[tuning.big]", with: "[tuning.large]")
      return try MatrixScenario.parse(wrong, path: "x.toml")
    }
  }

  @Test func aTuningOfGodwits() throws {
    let text =
      Self.small.replacingOccurrences(of: "\"godwit-precopy\"", with: "\"godwit-timebound+tight\"")
        + """

        [tuning.tight]
        within = "20s"
        atDeadline = "postcopy"
        maxDowntime = "2s"
        maxThrottle = 50
        throttle = "freeze"
        """
    let scenario = try MatrixScenario.parse(text, path: "x.toml")
    var request = MigrationRequest(vm: "v", destination: "d")
    var tuning = MethodTuning()
    (tuning.withinMs, tuning.throttleForm) = (5000, .stepwise)
    tuning.merge(try scenario.tuning(of: .strategy("timebound", tuning: "tight")))
    tuning.apply(to: &request)
    #expect(request.withinMs == 20_000 && request.atDeadline == .postcopy)
    #expect(request.downtimeCeilingMs == 2000 && request.maxThrottlePercent == 50)
    #expect(request.throttleForm == .freeze)
    #expect(throws: LabError.self) { try scenario.tuning(of: .rival(.precopy, tuning: "tight")) }
    #expect(tuning.fingerprint != MethodTuning().fingerprint)
  }

  @Test func aGang() throws {
    let text =
      Self.small.replacingOccurrences(of: "\"godwit-precopy\"", with: "\"godwit-precopy+gang\"")
      + "\n[tuning.gang]\ngang = true\n"
    let scenario = try MatrixScenario.parse(text, path: "x.toml")
    let tuning = try scenario.tuning(of: .strategy("precopy", tuning: "gang"))
    var request = MigrationRequest(vm: "v", destination: "d")
    tuning.apply(to: &request)
    #expect(request.gang != nil && request.problem == nil)
    #expect(tuning.fingerprint != MethodTuning().fingerprint)
    #expect(throws: LabError.self) { try scenario.tuning(of: .rival(.precopy, tuning: "gang")) }
    #expect(throws: ConfigurationError.self) {
      try MatrixScenario.parse(text + "compaction = \"off\"\n", path: "x.toml")
    }
  }

  @Test(arguments: [
    ("link = \"200Mbit\"", "link = \"fast\"", "fast"),
    ("rounds = 2", "rounds = 0", "rounds"),
    ("rounds = 2", "roundz = 2", "did you mean rounds"),
    ("\"qemu-xbzrle\"", "\"qemu-magic\"", "qemu-magic"),
    ("pattern = \"hotspot\"", "pattern = \"holes\"", "holes"),
    ("name = \"b\"", "name = \"a\"", "twice"),
    ("name = \"b\"", "name = \"b/c\"", "no name"),
    ("dirty = 1.5", "dirty = -1.0", "-1"),
    ("batch = 8", "batch = 0", "1...64"),
    ("memory = \"512MiB\"", "memory = \"much\"", "much"),
    ("methods = [\"qemu-xbzrle\", \"godwit-precopy\"]", "methods = []", "methods"),
    ("\"newest\", ", "\"newest ->\", ", "names no QEMU"),
    ("\"newest\", ", "\"newest -> newest -> newest\", ", "names no QEMU"),
    ("[\"newest\", ", "[\"installed -> newest\"]\nreturnAfter = \"1m\" # ", "the same one"),
  ])
  func aMistakeIsNamed(right: String, wrong: String, word: String) throws {
    let text = Self.small.replacingOccurrences(of: right, with: wrong)
    #expect(text != Self.small)
    let error = try #require(throws: ConfigurationError.self) {
      try MatrixScenario.parse(text, path: "x.toml")
    }
    #expect(error.description.contains(word), "\(error)")
    #expect(error.description.hasPrefix("x.toml"))
  }

  @Test func eachSideHasItsQEMU() throws {
    let pair = try #require(QEMUChoice("installed -> /opt/qemu"))
    #expect(!pair.isSame && QEMUChoice.path(pair.source) == QEMUProgram.installedPath)
    #expect(QEMUChoice.path(pair.destination) == "/opt/qemu")
    let same = try #require(QEMUChoice("newest"))
    #expect(same.isSame && QEMUChoice.path(same.source) == nil)
    #expect(QEMUChoice("") == nil && QEMUChoice("-> newest") == nil)
  }

  @Test func whatShipsCanBeRead() throws {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../../\(MatrixScenario.folder)").standardizedFileURL.path
    let names = try FileManager.default.contentsOfDirectory(atPath: folder)
    #expect(names.contains("matrix-memory.toml") && names.contains("page-cache.toml"))
    let pageCache = try MatrixScenario.load("\(folder)/page-cache.toml")
    #expect(pageCache.guests.first?.specification.rootDisk == .mebibytes(640))
    #expect(try MatrixScenario.load("\(folder)/return.toml").returnAfterMs == 60_000)
    for name in names {
      let scenario = try MatrixScenario.load("\(folder)/\(name)")
      #expect("\(scenario.name).toml" == name)
      #expect(!scenario.about.isEmpty)
      for guest in scenario.guests {
        #expect(throws: Never.self, "\(guest.name)") { try guest.specification.validate() }
        let room = guest.specification.workloadRoomMiB
        #expect((guest.specification.workload.memoryMiB ?? 0) <= room, "\(guest.name)")
      }
    }
  }

  @Test func suitesNameExperimentsThatAreThere() throws {
    let share = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../..").standardizedFileURL.path
    let names = try FileManager.default.contentsOfDirectory(atPath: "\(share)/\(LabSuite.folder)")
    #expect(
      Set(names)
        == ["quick.toml", "memory.toml", "compaction.toml", "storage.toml", "papers.toml"])
    for name in names {
      let suite = try LabSuite.load("\(share)/\(LabSuite.folder)/\(name)")
      #expect("\(suite.name).toml" == name && !suite.about.isEmpty)
      for experiment in suite.experiments {
        let path = "\(share)/\(MatrixScenario.folder)/\(experiment).toml"
        #expect(FileManager.default.fileExists(atPath: path), "\(experiment)")
        // Its name would not tell which is meant.
        #expect(experiment != suite.name)
      }
    }
  }

  @Test(arguments: [
    "about = \"x\"\nexperiments = []", "about = \"x\"\nexperiments = [\"a\", \"a\"]",
    "experiments = [\"a\"]", "about = \"x\"\nexperimentz = [\"a\"]",
  ])
  func noSuite(text: String) throws {
    let path = NSTemporaryDirectory() + "godwit-suite-\(UUID().uuidString).toml"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    #expect(throws: ConfigurationError.self) { try LabSuite.load(path) }
  }
}
