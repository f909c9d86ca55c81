import Base
import QMP
import Testing

/// A client whose monitor answers with one golden reply, whatever is asked.
private func client(_ version: String, _ name: String) throws -> QMPClient {
  let value = try Golden.reply(version, name).line
  return makeClient { ["{\"return\":\(value),\"id\":\($0["id"]?.line ?? "")}"] }.0
}

@Suite(.timeLimit(.minutes(1))) struct GoldenReplyTests {
  @Test(arguments: Golden.versions) func greetings(version: String) throws {
    guard case .greeting(let greeting) = try QMPMessage.parse(Golden.line(version, "greeting"))
    else {
      Issue.record("not a greeting")
      return
    }
    #expect(greeting.offersOutOfBand)
    #expect(
      greeting.version
        == (version == "7.2"
          ? QEMUVersion(7, 2, 22, package: greeting.version.package)
          : QEMUVersion(10, 0, 2, package: greeting.version.package)))
    #expect(greeting.version.package.hasPrefix("Debian"))
  }

  @Test(arguments: Golden.versions) func statuses(version: String) async throws {
    let running = try await client(version, "query-status").queryStatus()
    #expect(running == VMStatus(state: .running, isRunning: true))
    let after = try await client(version, "query-status-postmigrate").queryStatus()
    #expect(after == VMStatus(state: .postMigrate, isRunning: false))
  }

  @Test(arguments: Golden.versions) func migrations(version: String) async throws {
    let before = try await client(version, "query-migrate").queryMigrate()
    #expect(before.status == .none && !before.status.isRunning && before.ram == nil)
    let active = try await client(version, "query-migrate-active").queryMigrate()
    #expect(active.status == .active && active.status.isRunning)
    #expect(active.expectedDowntimeMs == 300)
    let ram = try #require(active.ram)
    #expect(ram.total == 67_772_416 && ram.pageSize == 4096 && ram.dirtySyncCount == 1)
    #expect(ram.remaining > 0 && ram.remaining <= ram.total)
    #expect(ram.normalBytes == ram.normal * 4096)
    #expect((ram.skipped == nil) == (version == "10.0"))
    #expect(try #require(ram.bitsPerSecond) > 1_000_000)
    let completed = try await client(version, "query-migrate-completed").queryMigrate()
    #expect(completed.status == .completed && completed.status.isFinal)
    #expect(completed.downtimeMs == (version == "7.2" ? 9 : 6))
    let failed = try await client(version, "query-migrate-failed").queryMigrate()
    #expect(failed.status == .failed)
    #expect(
      failed.errorDescription
        == "Failed to connect to '/nonexistent/socket': No such file or directory")
    let cancelled = try await client(version, "query-migrate-cancelled").queryMigrate()
    #expect(cancelled.status == .cancelled)
  }

  @Test(arguments: Golden.versions) func settings(version: String) async throws {
    let capabilities = try await client(version, "query-migrate-capabilities")
      .queryMigrateCapabilities()
    #expect(capabilities.exists("postcopy-ram") && !capabilities["postcopy-ram"])
    #expect(capabilities.exists("switchover-ack") == (version == "10.0"))
    #expect(capabilities.enabled.isEmpty)
    let parameters = try await client(version, "query-migrate-parameters").queryMigrateParameters()
    #expect(parameters.maxBandwidth == 134_217_728 && parameters.downtimeLimitMs == 300)
    #expect(parameters.tlsCreds.isEmpty)
    #expect(parameters.exists("avail-switchover-bandwidth") == (version == "10.0"))
    #expect(parameters.changes(from: parameters).isEmpty)
  }

  @Test(arguments: Golden.versions) func machine(version: String) async throws {
    let cpus = try await client(version, "query-cpus-fast").queryCPUsFast()
    #expect(cpus.map(\.index) == [0, 1] && cpus.allSatisfy { $0.threadID > 0 })
    let backends = try await client(version, "query-memdev").queryMemoryBackends()
    #expect(backends.map(\.id) == ["mem0"])
    #expect(backends.first?.isShared == true && backends.first?.size == 65664 << 10)
    #expect(try await client(version, "query-name").queryName() == "golden")
    #expect(
      try await client(version, "query-uuid").queryUUID() == "8d9f7a52-6a0e-4c1b-9d2f-2d3c6c2b1a11")
    #expect(
      try await client(version, "query-kvm").queryKVM()
        == KVMState(isEnabled: false, isPresent: true))
    #expect(
      try await client(version, "qom-get-machine-type").currentMachineType()
        == "pc-i440fx-\(version)")
    let machines = try await client(version, "query-machines").queryMachines()
    #expect(machines.contains { $0.alias == "pc" && $0.name == "pc-i440fx-\(version)" })
    #expect(try await client(version, "query-version").queryVersion().package.hasPrefix("Debian"))
    #expect(try await client(version, "query-commands").queryCommands().contains("migrate"))
    #expect(try await client(version, "query-memory-size-summary").queryMemorySize() == 65664 << 10)
    #expect(
      try await client(version, "query-cpu-model-expansion")
        .queryCPUModelExpansion(name: "qemu64")["sse2"] == true)
    let devices = try await client(version, "query-chardev").queryCharacterDevices()
    #expect(devices.contains { $0.fileName == "unix:/srv/golden/qmp.sock,server=on" })
    #expect(
      try await client(version, "qom-list-machine").qomList(path: "/machine")
        .contains { $0.name == "peripheral" && $0.type == "child<container>" })
  }

  @Test(arguments: Golden.versions) func disks(version: String) async throws {
    let nodes = try await client(version, "query-named-block-nodes").queryBlockNodes()
    #expect(nodes.map(\.nodeName) == ["disk0", "file0"])
    #expect(nodes.map(\.driver) == ["raw", "file"])
    #expect(nodes.allSatisfy { $0.virtualSize == 8 << 20 && $0.fileName == "/srv/golden/disk.raw" })
    #expect(nodes.first?.isActive == (version == "10.0" ? true : nil))
    let devices = try await client(version, "query-block").queryBlock()
    #expect(devices.first?.node?.nodeName == "disk0")
    let layers = devices.first?.node?.layers ?? []
    #expect(layers.map(\.fileName) == ["/srv/golden/disk.raw"] && layers.map(\.format) == ["raw"])
    let lineages = try await client(version, "query-blockstats").queryBlockLineages()
    #expect(lineages.count == 1 && lineages.first?.qdev == devices.first?.qdev)
    #expect(lineages.first?.layers.map(\.nodeName) == ["disk0"])
    #expect(lineages.first?.layers.first?.fileNodeName == "file0")
    let rate = try await client(version, "query-dirty-rate").queryDirtyRate()
    #expect(rate.status == .unstarted && rate.bytesPerSecond == nil)
  }

  @Test(arguments: Golden.versions) func ramBlocks(version: String) async throws {
    let blocks = try await client(version, "info-ramblock").ramBlocks()
    #expect(
      blocks.map(\.name) == [
        "mem0", "/rom@etc/acpi/tables", "pc.bios", "pc.rom", "/rom@etc/table-loader",
        "/rom@etc/acpi/rsdp",
      ])
    #expect(blocks[0].usedSize == 65664 << 10 && blocks[0].pageSize == 4096)
    #expect(blocks[1].usedSize == 0x20000 && blocks[1].totalSize == 0x200000)
    #expect((blocks[0].hostAddress != nil) == (version == "10.0"))
    let ranges = try await client(version, "info-mtree").guestRAMRanges()
    let main = try #require(ranges.first { $0.blockName == "mem0" })
    #expect(main.guestAddress == 0 && main.blockOffset == 0 && main.length > 0)
    for range in ranges where range.blockName == "mem0" {
      #expect(range.guestAddress == range.blockOffset)
    }
  }

  @Test(arguments: Golden.versions) func errorsAndEvents(version: String) throws {
    let notFound = try QMPMessage.parse(Golden.line(version, "error-command-not-found"))
    guard case .failure(1, "CommandNotFound", let detail) = notFound else {
      Issue.record("\(notFound)")
      return
    }
    #expect(detail.contains("no-such-command"))
    guard case .event(let event) = try QMPMessage.parse(Golden.line(version, "event-MIGRATION"))
    else {
      Issue.record("not an event")
      return
    }
    #expect(event.migrationStatus == .completed && event.seconds > 1_700_000_000)
  }

  /// Every captured line is understood, and no prefix or altered byte of any traps.
  @Test(arguments: Golden.versions) func everyLineEveryPrefix(version: String) throws {
    var random = SplitMix64(seed: 11)
    for name in try Golden.files(version) {
      let line = try Golden.line(version, name)
      _ = try QMPMessage.parse(line)
      for _ in 0..<40 {
        let length = Int.random(in: 0..<line.count, using: &random)
        #expect(throws: QMPMessage.Malformed.self, "\(name) cut at \(length)") {
          try QMPMessage.parse(Array(line[..<length]))
        }
        var altered = line
        altered[length] = UInt8.random(in: 0...255, using: &random)
        _ = try? QMPMessage.parse(altered)
      }
    }
  }

  @Test func anUnknownStatusIsNotAnEnd() {
    let info = MigrationInfo(["status": "postcopy-of-2031"])
    #expect(info.status == .unknown("postcopy-of-2031"))
    #expect(!info.status.isFinal && info.status.isRunning)
    #expect(MigrationStatus("failing").isRunning)
  }

  @Test func restoringChangesOnlyWhatDiffers() async throws {
    let now = #"{"max-bandwidth":5,"downtime-limit":300,"x-new":1.50}"#
    let (client, transport, _) = makeClient { request in
      let reply =
        switch request["execute"]?.string {
        case "query-migrate-parameters": now
        case "query-migrate-capabilities": #"[{"capability":"events","state":true}]"#
        default: "{}"
        }
      return ["{\"return\":\(reply),\"id\":\(request["id"]?.line ?? "")}"]
    }
    try await client.restore(
      capabilities: MigrationCapabilities(["events": false, "gone": true]),
      parameters: MigrationParameters([
        "max-bandwidth": 7, "downtime-limit": 300, "x-new": .number("1.50"),
      ]))
    let set = transport.sent.filter { $0["execute"]?.string?.hasPrefix("migrate-set") == true }
    #expect(
      set.compactMap { $0["arguments"] } == [
        ["max-bandwidth": 7],
        ["capabilities": [["capability": "events", "state": false]]],
      ])
  }
}
