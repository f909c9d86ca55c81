import Base
import QMP
import Testing

/// What a monitor must never be able to do: make the client trap, hang, or grow without bound.
@Suite(.timeLimit(.minutes(1))) struct HostileInputTests {
  private static let names = [
    "query-migrate", "query-status", "query-cpus-fast", "query-memdev", "query-named-block-nodes",
    "query-block", "query-migrate-capabilities", "query-migrate-parameters", "query-dirty-rate",
    "query-machines", "query-chardev", "query-version", "query-kvm", "query-uuid",
    "query-memory-size-summary", "query-memory-devices", "query-commands", "query-name",
    "query-blockstats",
  ]
  private static let scalars: [JSONValue] = [
    .null, true, "", "x", 0, -1, .number("18446744073709551616"), .number("-1e400"),
    .number("0.1e-9"), .number(String(repeating: "9", count: 500)), .array([]), .object([:]),
  ]

  /// Golden replies with values swapped for absurd ones are decoded or refused, nothing else.
  @Test(arguments: Golden.versions) func distortedReplies(version: String) async throws {
    for seed in 0..<200 as Range<UInt64> {
      var random = SplitMix64(seed: seed)
      let name = Self.names.randomElement(using: &random) ?? ""
      let reply = distort(try Golden.reply(version, name), using: &random).line
      let (client, _, _) = makeClient { ["{\"return\":\(reply),\"id\":\($0["id"]?.line ?? "")}"] }
      let calls: [() async throws -> Void] = [
        { _ = try await client.queryMigrate() }, { _ = try await client.queryStatus() },
        { _ = try await client.queryCPUsFast() }, { _ = try await client.queryMemoryBackends() },
        { _ = try await client.queryBlockNodes() }, { _ = try await client.queryBlock() },
        { _ = try await client.queryMigrateCapabilities() },
        { _ = try await client.queryMigrateParameters() },
        { _ = try await client.queryDirtyRate() },
        { _ = try await client.queryMachines() }, { _ = try await client.queryCharacterDevices() },
        { _ = try await client.queryVersion() }, { _ = try await client.queryKVM() },
        { _ = try await client.queryUUID() }, { _ = try await client.queryMemorySize() },
        { _ = try await client.queryMemoryDevices() }, { _ = try await client.queryCommands() },
        { _ = try await client.queryName() }, { _ = try await client.currentMachineType() },
        { _ = try await client.cpuFeatureWords(qomPath: "/") },
        { _ = try await client.ramBlocks() }, { _ = try await client.queryBlockLineages() },
      ]
      for call in calls {
        do { try await call() } catch let error as QMPError {
          #expect(error.code == .unexpectedReply, "seed \(seed): \(error)")
        }
      }
      #expect(!client.isClosed, "seed \(seed)")
    }
  }

  @Test func randomTablesOfTheHumanMonitor() {
    let words = [
      "mem0", "4", "KiB", "GiB", "0x0000000000000000", "0xffffffffffffffff", "0x", "ro", "rw",
      "\r\n",
      "FlatView", "AS \"memory\"", "Root memory region: system", "(prio", "0,", "ram):", "@",
      "0000000000000000-ffffffffffffffff", "00000002-00000001", "@ffffffffffffffff", "é",
      "99999999999",
    ]
    for seed in 0..<2000 as Range<UInt64> {
      var random = SplitMix64(seed: seed)
      let text = (0..<Int.random(in: 0..<60, using: &random)).map { _ in
        words.randomElement(using: &random) ?? ""
      }.joined(separator: " ")
      for block in RAMBlockInfo.parse(text) { #expect(!block.name.isEmpty, "seed \(seed)") }
      for range in GuestRAMRange.parse(text) { #expect(range.length > 0, "seed \(seed)") }
    }
    let endless = String(repeating: "m 4 KiB 0x0 0x1 0x1\n", count: 100_000)
    #expect(RAMBlockInfo.parse(endless).count == RAMBlockInfo.countMax)
  }

  @Test func aLineOverTheLimitIsRefusedUnread() {
    let line = [UInt8](repeating: 0x20, count: QMPMessage.lineLengthMax + 1)
    #expect(throws: QMPMessage.Malformed.self) { try QMPMessage.parse(line) }
  }

  @Test func endlessErrorTextsAreCut() async {
    let (client, _, _) = makeClient { request in
      let text = String(repeating: "x", count: 1 << 20)
      return [
        "{\"id\":\(request["id"]?.line ?? ""),\"error\":{\"class\":\"GenericError\",\"desc\":\"\(text)\"}}"
      ]
    }
    let error = await #expect(throws: QMPError.self) { try await client.cont() }
    #expect((error?.detail.count ?? .max) < 4096)
  }

  /// Swaps some values, drops some members.
  private func distort(_ value: JSONValue, using random: inout SplitMix64) -> JSONValue {
    if Int.random(in: 0..<12, using: &random) == 0 {
      return Self.scalars.randomElement(using: &random) ?? .null
    }
    switch value {
    case .array(let elements): return .array(elements.map { distort($0, using: &random) })
    case .object(let members):
      var distorted: [String: JSONValue] = [:]
      for name in members.keys.sorted() where Int.random(in: 0..<12, using: &random) > 0 {
        distorted[name] = distort(members[name] ?? .null, using: &random)
      }
      return .object(distorted)
    case .null, .bool, .number, .string: return value
    }
  }
}
