import QMP
import Testing

private let greeting =
  #"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": ""}, "capabilities": ["oob"]}}"#

@Suite(.timeLimit(.minutes(1))) struct QMPClientTests {
  @Test func negotiatesAndTurnsOutOfBandOn() async throws {
    let (client, transport, timer) = makeClient(returnsEmpty)
    client.receive(text(greeting))
    let result = try await client.negotiate(timeoutMs: 100)
    #expect(result.version == QEMUVersion(10, 0, 2))
    #expect(client.outOfBandEnabled)
    #expect(transport.sent.first?["arguments"]?["enable"] == ["oob"])
    try await client.migratePause()
    #expect(transport.sent.last?["exec-oob"] == "migrate-pause")
    #expect(timer.pendingCount == 0)
  }

  @Test func waitsForAGreetingThatComesLate() async throws {
    let (client, _, timer) = makeClient(returnsEmpty)
    async let negotiated = client.negotiate(timeoutMs: 100)
    await eventually { timer.pendingCount == 1 }
    client.receive(text(greeting))
    #expect(try await negotiated.offersOutOfBand)
  }

  @Test func aMonitorThatNeverGreetsTimesOut() async {
    let (client, _, timer) = makeClient()
    async let result = outcome { try await client.negotiate(timeoutMs: 100) }
    await eventually { timer.pendingCount == 1 }
    timer.advance(byMs: 100)
    #expect(await result == QMPError(.timedOut(afterMs: 100), command: "greeting"))
  }

  @Test func manyCallersOneConnectionRepliesInAnyOrder() async throws {
    let (client, transport, _) = makeClient()
    await withTaskGroup(of: Bool.self) { group in
      for index in 0..<50 {
        group.addTask {
          let reply = try? await client.execute("echo", ["value": JSONValue(index)])
          return reply == JSONValue(index)
        }
      }
      await eventually { transport.sent.count == 50 }
      for request in transport.sent.reversed() {
        let (id, value) = (request["id"]?.line ?? "", request["arguments"]?["value"]?.line ?? "")
        client.receive(text("{\"return\":\(value),\"id\":\(id)}"))
      }
      for await isRight in group { #expect(isRight) }
    }
  }

  @Test func errorsNameTheirCommand() async {
    let (client, _, _) = makeClient { request in
      let id = request["id"]?.line ?? ""
      return ["{\"id\":\(id),\"error\":{\"class\":\"GenericError\",\"desc\":\"no way\"}}"]
    }
    let error = await outcome { try await client.migrate(uri: "unix:/x") }
    #expect(
      error
        == QMPError(.refused(errorClass: "GenericError"), command: "migrate", detail: "no way"))
    #expect(error?.description == "QEMU refused migrate: no way")
  }

  @Test func aHangingCommandTimesOutAndItsLateReplyIsDropped() async throws {
    let (client, transport, timer) = makeClient { request in
      request["execute"] == "stop" ? returnsEmpty(request) : []
    }
    async let hanging = outcome { try await client.queryMigrate(timeoutMs: 500) }
    // Sent, too: a command whose time is over before that is not.
    await eventually { transport.sent.count == 1 }
    timer.advance(byMs: 499)
    #expect(timer.pendingCount == 1)
    timer.advance(byMs: 1)
    #expect(await hanging == QMPError(.timedOut(afterMs: 500), command: "query-migrate"))
    let id = transport.sent.first?["id"]?.line ?? ""
    client.receive(text("{\"return\":{},\"id\":\(id)}"))
    try await client.stop()
    #expect(!client.isClosed)
  }

  @Test func closingFailsEveryWaiter() async {
    let (client, transport, timer) = makeClient()
    async let first = outcome { try await client.cont() }
    async let second = outcome { try await client.queryStatus() }
    await eventually { timer.pendingCount == 2 }
    transport.close()
    #expect(await first == QMPError(.disconnected, command: "cont"))
    #expect(await second == QMPError(.disconnected, command: "query-status"))
    let late = await outcome { try await client.cont() }
    #expect(late?.code == .disconnected)
    #expect(timer.pendingCount == 0)
    await client.closed()
  }

  @Test func cancellationFreesTheCaller() async {
    let (client, _, timer) = makeClient()
    let task = Task { await outcome { try await client.cont() } }
    await eventually { timer.pendingCount == 1 }
    task.cancel()
    #expect(await task.value == QMPError(.cancelled, command: "cont"))
    #expect(timer.pendingCount == 0)
    let early = Task { await outcome { try await client.cont() } }
    early.cancel()
    #expect(await early.value?.code == .cancelled)
  }

  @Test func waitingForTheEndCanBeCancelled() async {
    let (client, _, _) = makeClient()
    let task = Task { await client.closed() }
    task.cancel()
    await task.value
    #expect(!client.isClosed)
    async let end: Void = client.closed()
    client.connectionClosed()
    await end
  }

  @Test func tooManyWaitingCommandsAreRefused() async {
    let (client, transport, _) = makeClient()
    await withTaskGroup(of: QMPError?.self) { group in
      for _ in 0..<QMPClient.waitingCountMax {
        group.addTask { await outcome { try await client.cont() } }
      }
      await eventually { transport.sent.count == QMPClient.waitingCountMax }
      let refused = await outcome { try await client.stop() }
      #expect(refused == QMPError(.overloaded, command: "stop"))
      client.close()
      for await error in group { #expect(error?.code == .disconnected) }
    }
  }

  @Test(arguments: [
    "garbage", "[]", "{}", "{\"return\":{}}", "{\"return\":{},\"id\":-1}",
    "{\"error\":{\"class\":\"GenericError\",\"desc\":\"JSON parse error\"}}",
    "{\"QMP\":{}}", "{\"return\":{},\"id\":99999999999999999999999999}",
  ])
  func whatIsNotQMPEndsTheConnection(line: String) async {
    let (client, transport, timer) = makeClient()
    async let waiting = outcome { try await client.cont() }
    await eventually { timer.pendingCount == 1 }
    client.receive(text(line))
    #expect(await waiting?.code == .protocolViolation)
    #expect(client.isClosed)
    #expect(!transport.isOpen)
  }

  @Test func eventsReachEverySubscriberAndEndWithTheConnection() async {
    let (client, _, _) = makeClient()
    let (first, second) = (client.events(), client.events())
    for pass in 1...3 {
      client.receive(
        text(
          "{\"event\":\"MIGRATION_PASS\",\"data\":{\"pass\":\(pass)},"
            + "\"timestamp\":{\"seconds\":5,\"microseconds\":6}}"))
    }
    client.connectionClosed()
    for stream in [first, second] {
      var passes: [UInt64] = []
      for await event in stream {
        #expect(event.name == "MIGRATION_PASS" && event.seconds == 5)
        passes.append(event.data["pass"]?.uint64 ?? 0)
      }
      #expect(passes == [1, 2, 3])
    }
    var afterwards = client.events().makeAsyncIterator()
    #expect(await afterwards.next() == nil)
  }

  @Test func aSlowSubscriberLosesTheOldest() async {
    let (client, _, _) = makeClient()
    let stream = client.events()
    let count = QMPClient.eventDepthMax + 10
    for index in 0..<count {
      client.receive(text("{\"event\":\"E\",\"data\":{\"n\":\(index)}}"))
    }
    client.connectionClosed()
    var seen: [Int] = []
    for await event in stream { seen.append(event.data["n"]?.int ?? -1) }
    #expect(seen == Array(10..<count))
  }

  @Test func quitSucceedsWhenQEMUHangsUpFirst() async throws {
    let (client, transport, _) = makeClient()
    let quitting = Task { try await client.quit() }
    await eventually { transport.sent.count == 1 }
    transport.close()
    try await quitting.value
  }
}

/// The QMP error of a command; nil when it succeeds or fails otherwise.
private func outcome<Value>(_ command: () async throws -> Value) async -> QMPError? {
  do { _ = try await command() } catch { return error as? QMPError }
  return nil
}
