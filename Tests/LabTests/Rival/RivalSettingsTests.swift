import QMP
import Testing

@testable import Lab

@Suite struct RivalSettingsTests {
  private static let old = [
    "return-path", "auto-converge", "xbzrle", "multifd", "postcopy-ram",
  ]

  private func facts(
    source: [String] = old + ["postcopy-preempt"],
    destination: [String] = old + ["postcopy-preempt"],
    workingSet: UInt64 = 100 << 20
  ) -> RivalSettings.Facts {
    func capabilities(_ names: [String]) -> MigrationCapabilities {
      MigrationCapabilities(Dictionary(uniqueKeysWithValues: names.map { ($0, false) }))
    }
    return RivalSettings.Facts(
      downtimeLimitMs: 300, bandwidthCap: 0, memoryBytes: 768 << 20, workingSetBytes: workingSet,
      processors: 2, source: capabilities(source), destination: capabilities(destination))
  }

  @Test(arguments: Rival.allCases)
  func everyRivalHasItsDowntimeLimitNoCapAndTheReturnPath(rival: Rival) throws {
    let settings = try RivalSettings(rival, facts())
    #expect(settings.sourceParameters["downtime-limit"]?.uint64 == 300)
    #expect(settings.sourceParameters["max-bandwidth"]?.uint64 == 0)
    #expect(settings.capabilities["return-path"] == true)
  }

  /// Each capability in one rival alone: they must not help one another.
  @Test func capabilitiesOfEach() throws {
    func names(_ rival: Rival) throws -> [String] {
      let settings = try RivalSettings(rival, facts())
      return (Array(settings.capabilities.keys) + settings.sourceCapabilities.keys).sorted()
    }
    #expect(try names(.precopy) == ["return-path"])
    #expect(try names(.autoconverge) == ["auto-converge", "return-path"])
    #expect(try names(.xbzrle) == ["return-path", "xbzrle"])
    #expect(try names(.multifdZstd) == ["multifd", "return-path"])
    #expect(try names(.postcopy) == ["postcopy-preempt", "postcopy-ram", "return-path"])
  }

  @Test func preemptOnlyWhereBothHaveIt() throws {
    let settings = try RivalSettings(.postcopy, facts(destination: Self.old))
    #expect(settings.capabilities["postcopy-preempt"] == nil)
    #expect(settings.capabilities["postcopy-ram"] == true)
  }

  @Test func whatQEMULacksIsSaid() {
    #expect(throws: LabError("qemu-multifd-zstd: this QEMU has no multifd")) {
      try RivalSettings(.multifdZstd, facts(destination: ["return-path"]))
    }
    // Of no use to the destination, and not asked of it.
    #expect(throws: Never.self) {
      try RivalSettings(.autoconverge, facts(destination: ["return-path"]))
    }
  }

  @Test(arguments: [
    (0, 64), (30, 64), (32, 64), (33, 128), (100, 256), (200, 512), (500, 1024), (5000, 1024),
  ])
  func cacheIsAPowerOfTwoOfTwiceTheWorkingSetAndNotBeyondRAM(hotMiB: UInt64, cacheMiB: UInt64) {
    #expect(RivalSettings.cacheBytes(facts(workingSet: hotMiB << 20)) == cacheMiB << 20)
  }

  @Test func aTuningWinsOnBothSides() throws {
    var tuning = MethodTuning()
    tuning.capabilities = ["auto-converge": true, "zero-blocks": true]
    tuning.parameters = ["cpu-throttle-initial": 50, "max-bandwidth": 1000]
    var settings = try RivalSettings(.autoconverge, facts())
    settings.apply(tuning)
    #expect(
      settings.capabilities == ["return-path": true, "auto-converge": true, "zero-blocks": true])
    #expect(settings.sourceCapabilities.isEmpty)
    #expect(settings.parameters == ["cpu-throttle-initial": 50, "max-bandwidth": 1000])
    #expect(settings.sourceParameters == ["downtime-limit": 300])
  }

  @Test func names() {
    for rival in Rival.allCases {
      #expect(LabMethod(name: rival.name) == .rival(rival))
      #expect(LabMethod.rival(rival).name == rival.name)
    }
    for method in DiskMethod.allCases {
      #expect(LabMethod(name: method.rawValue) == .disk(method))
      #expect(LabMethod.disk(method).name == method.rawValue)
      #expect(
        LabMethod.disk(method).kind == (method.rawValue.hasPrefix("qemu-") ? "qemu" : "godwit"))
    }
    #expect(LabMethod(name: "qemu") == .rival(.precopy))
    #expect(LabMethod(name: "godwit") == .strategy("precopy"))
    #expect(LabMethod(name: "godwit-timebound")?.name == "godwit-timebound")
    #expect(LabMethod(name: "qemu-xbzrle+big") == .rival(.xbzrle, tuning: "big"))
    #expect(LabMethod(name: "qemu-xbzrle+big")?.name == "qemu-xbzrle+big")
    #expect(LabMethod(name: "godwit+tight")?.name == "godwit-precopy+tight")
    for wrong in [
      "qemu-xbzrle+", "+big", "", "qemu-", "qemu-fast", "godwit-", "hotpages", "mirror+",
    ] {
      #expect(LabMethod(name: wrong) == nil, "\(wrong)")
    }
  }
}
