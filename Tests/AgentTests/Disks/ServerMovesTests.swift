import BlockStore
import Foundation
import HostIO
import Logging
import Testing

@testable import Agent

/// What a server of disks says of a move, and what a migration makes of it.
@Suite struct ServerMovesTests {
  private let folder = "/tmp/godwit-served-\(UUID().uuidString.prefix(8))"

  /// A server that answers `status` with what it is told, and remembers its other orders.
  private final class Script: Sendable {
    let orders = Guarded<[BlockRequest]>([])
    let move = Guarded<MoveStatus?>(nil)
    let away = Guarded<String?>(nil)
    private let isOver = Guarded(false)

    init(_ path: String) throws {
      let listener = try UnixSocket.listen(path: path)
      _ = WorkerThread("script") { [self] in
        while !isOver.read({ $0 }) {
          guard let socket = try? listener.accept(timeoutMs: 20) else { continue }
          try? answer(socket)
          socket.shutdown()
        }
      }
    }

    private func answer(_ socket: StreamSocket) throws {
      guard let line = try BlockLine.read(socket) else { return }
      let request = try JSONLine.decode(BlockRequest.self, from: line)
      if request.command != .status { orders.update { $0.append(request) } }
      var reply = BlockReply()
      reply.moves = move.read { $0.map { [$0] } ?? [] }
      reply.away = away.read { $0 }
      let bytes = Array((try JSONLine.encode(reply) + "\n").utf8)
      try socket.writeAll(bytes.span.bytes)
    }

    func end() { isOver.update { $0 = true } }
  }

  private var disk: MovingDisk {
    MovingDisk(
      number: 3, target: "n0",
      claim: DiskClaim(device: "d", name: "n0", sourcePath: "/d.raw", byteCount: 1 << 30),
      destinationPath: "/d.raw",
      server: AttachedDisk(name: "n0", image: "/d.raw", socket: folder + "/s", export: ""))
  }

  private func status(
    _ phase: String, needed: UInt64 = 0, destination: String, problem: String? = nil,
    connections: Int = 1
  ) throws -> MoveStatus {
    let text = """
      {"disk": "x", "destination": "\(destination)", "phase": "\(phase)", "diskBytes": \(1 << 30),
       "neededBytes": \(needed), "arrivedBytes": 0, "wireBytes": 0, "readBytes": 7, "forwardedBytes": 0,
       "mirroredBytes": 0, "roundCount": 1, "connectionCount": \(connections), "method": null, "ending": null,
       "bytesPerSecond": null, "etaMs": null, "pauseUs": null, "backupBytes": null,
       "backupRefusals": null, "skippedBytes": null, "baseRefusals": null, "surrogate": null,
       "problem": \(problem.map { "\"\($0)\"" } ?? "null")}
      """
    return try JSONLine.decode(MoveStatus.self, from: text.utf8)
  }

  private func withScript(
    patienceMs: UInt64 = 60_000,
    _ body: (Script, ServerMoves, String) async throws -> Void
  ) async throws {
    try PrivateDirectory.make(folder)
    let script = try Script(folder + "/s.control")
    let handles = ServerMoves.handles([disk], in: "/run/a b", id: "0123456789abcdef")
    let moves = ServerMoves([disk], handles, [], patienceMs: patienceMs)
    let uri = try #require(handles.first).destination
    try await body(script, moves, uri)
    script.end()
    try FileManager.default.removeItem(atPath: folder)
  }

  @Test func aMoveHasAnAddressOfItsOwn() {
    let handle = ServerMoves.handles([disk], in: "/run/a b", id: "0123456789abcdef").first
    #expect(handle?.control == folder + "/s.control" && handle?.disk == "")
    #expect(
      handle?.destination == "nbd+unix:///disk-3?socket=/run/a%20b/0123456789ab-3.move")
    // An older copy keeps its own, whichever migration it is.
    var copy = disk
    copy.copyInode = 77
    let places = ["0123456789abcdef", "fedcba9876543210"].map {
      ServerMoves.handles([copy], in: "/run", id: $0).first?.destination
    }
    #expect(places[0] == places[1] && places[0]?.hasSuffix(".copy") == true)
    copy.copyInode = 78
    #expect(ServerMoves.handles([copy], in: "/run", id: "x").first?.destination != places[0])
    var other = disk
    other.server = nil
    #expect(ServerMoves.handles([other], in: "/run", id: "x").isEmpty)
  }

  @Test(.timeLimit(.minutes(1))) func theServersWordIsTaken() async throws {
    try await withScript { script, moves, uri in
      func look(_ phase: String, needed: UInt64 = 0, _ problem: String? = nil) async throws
        -> DiskLook
      {
        let status = try status(phase, needed: needed, destination: uri, problem: problem)
        script.move.update { $0 = status }
        return try await moves.look()
      }
      #expect(
        try await look("copying", needed: 5)
          == DiskLook(owedBytes: 5, readBytes: 7, isReady: false))
      #expect(try await look("connecting", needed: 5).isReady == false)
      #expect(try await look("mirroring", needed: 8 << 20).isReady == false)
      // What the guest writes is on its way all the time.
      #expect(try await look("mirroring", needed: 1 << 20).isReady)
      #expect(try await look("paused").isReady == false)
      for (phase, problem, word) in [
        ("paused", "the destination: no space", "no space"), ("interrupted", nil, "anew"),
        ("cancelled", nil, "somebody"), ("copied", nil, "somebody"), ("switched", nil, "somebody"),
      ] {
        await #expect("\(phase)") {
          _ = try await look(phase, problem)
        } throws: { "\($0)".contains(word) && "\($0)".contains("n0") }
      }
      // Another move of the same disk is none of ours.
      let other = try status("mirroring", destination: "nbd://elsewhere/x")
      script.move.update { $0 = other }
      await #expect(throws: Ending.self) { _ = try await moves.look() }
    }
  }

  /// What the connection before still carries might arrive last.
  @Test(.timeLimit(.minutes(1))) func aSecondConnectionIsNotTrusted() async throws {
    try await withScript { script, moves, uri in
      for phase in ["copying", "mirroring", "copied"] {
        let again = try status(phase, destination: uri, connections: 2)
        script.move.update { $0 = again }
        await #expect("\(phase)") {
          _ = try await moves.look()
        } throws: { "\($0)".contains("broke") }
      }
    }
  }

  /// A stopped guest waits for no person.
  @Test(.timeLimit(.minutes(1))) func aPausedMoveEndsWithTheGuestStopped() async throws {
    try await withScript { script, moves, uri in
      let paused = try status("paused", destination: uri)
      script.move.update { $0 = paused }
      await #expect(throws: Ending.self) { _ = try await moves.finish() }
      #expect(script.orders.read { $0.isEmpty })
    }
  }

  /// An image on storage that both hosts have isn't the disk any more once that has moved, or while it has holes.
  @Test(.timeLimit(.minutes(1))) func anImageIsTheDiskOnlyIfItsServerSaysSo() async throws {
    try await withScript { script, _, uri in
      let server = try #require(disk.server)
      var looks = await server.look()
      #expect(looks.obstacle == nil && looks.imageIsDisk)
      script.away.update { $0 = " (pulled)" }
      looks = await server.look()
      #expect(looks.obstacle == nil && !looks.imageIsDisk)
      let switched = try status("switched", destination: uri)
      script.move.update { $0 = switched }
      #expect(await server.look().obstacle != nil)
      script.end()
      let gone = AttachedDisk(name: "n0", image: "/d.raw", socket: folder + "/none", export: "")
      looks = await gone.look()
      #expect(looks.obstacle != nil && !looks.imageIsDisk)
    }
  }

  @Test(.timeLimit(.minutes(1))) func theEndIsACopy() async throws {
    try await withScript { script, moves, uri in
      let mirroring = try status("mirroring", destination: uri)
      script.move.update { $0 = mirroring }
      #expect(try await moves.finish() == false)
      #expect(try await moves.finish() == false)
      let orders = script.orders.read { $0 }
      #expect(orders.map(\.command) == [.finish] && orders.first?.ending == .copy)
      let copied = try status("copied", destination: uri)
      script.move.update { $0 = copied }
      #expect(try await moves.finish())
      #expect(try await moves.finish())
    }
  }

  /// Who finds no way to the destination for long enough doesn't hold the migration up for ever.
  @Test(.timeLimit(.minutes(1))) func aWayThatIsGoneIsGivenUp() async throws {
    try await withScript(patienceMs: 0) { script, moves, uri in
      let connecting = try status("connecting", needed: 5, destination: uri)
      script.move.update { $0 = connecting }
      _ = try await moves.look()
      try await Task.sleep(for: .milliseconds(5))
      await #expect(throws: Ending.self) { _ = try await moves.look() }
    }
  }

  @Test(.timeLimit(.minutes(1))) func onlyOneThatIsOursAndOpenIsCancelled() async throws {
    try await withScript { script, moves, uri in
      let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
      for (phase, destination, isCancelled) in [
        ("copied", uri, false), ("mirroring", "nbd://elsewhere/x", false),
        ("interrupted", uri, true), ("copying", uri, true),
      ] {
        let status = try status(phase, destination: destination)
        script.move.update { $0 = status }
        script.orders.update { $0 = [] }
        await ServerMoves.cancel(moves.handles, logger: logger)
        #expect(script.orders.read { $0.map(\.command) } == (isCancelled ? [.cancel] : []))
      }
      // A server that is gone is no reason to fail.
      script.end()
      let gone = ServerMoves.Handle(control: folder + "/none", disk: "x", destination: uri)
      await ServerMoves.cancel([gone], logger: logger)
    }
  }
}
