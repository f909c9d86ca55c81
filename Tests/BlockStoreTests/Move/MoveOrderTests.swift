import DiskStrategy
import Foundation
import HostIO
import Testing

@testable import BlockStore

/// Orders that come while something else is being done.
@Suite struct MoveOrderTests {
  /// A thread that is late with the end of its move leaves the next one alone.
  @Test(.timeLimit(.minutes(1))) func anEndThatComesLate() async throws {
    let rig = try MoveRig()
    try await rig.move(rig.wish(.precopy, .wait))
    let first = try #require(rig.movable.move)
    try rig.movable.finishMove(.copy)
    try await WorkerThread.run("wait") { first.waitForThreads() }
    #expect(rig.movable.move == nil && rig.movable.moveStatus?.phase == .copied)
    try await rig.move(rig.wish(.precopy, .wait))
    let second = try #require(rig.movable.move)
    try await WorkerThread.run("late") { rig.movable.moveEnded(first) }
    #expect(rig.movable.move === second)
    try await WorkerThread.run("cancel") { try rig.movable.cancelMove() }
  }

  /// Who asks for it while the guest's writes wait for the end already gets no end.
  @Test(.timeLimit(.minutes(1)), arguments: [MoveEnding.copy, .wait])
  func aWaitThatIsAskedForAtTheEnd(ending: MoveEnding) async throws {
    let rig = try MoveRig()
    let geometry = try #require(DiskGeometry(byteCount: UInt64(MoveRig.byteCount)))
    try await WorkerThread.run("end") {
      let link = MoveLink(1, try rig.target.destination.connect(silence: .destination))
      defer { link.close() }
      var state = MoveState(
        geometry, map: BlockMap(geometry, filled: false),
        file: try MapFile.make(rig.mapPath, geometry, key: "one", filled: false),
        destinationName: "x")
      (state.stage, state.link, state.isFrozen) = (.moving, link, true)
      state.wish.ending = ending
      let move = DiskMove(name: "disk", source: rig.movable.source, state, log: { _ in })
      move.state.update { move.end(&$0, MonotonicClock.nowUs) }
      let (isMoving, isFrozen) = move.state.read { ($0.stage.isMoving, $0.isFrozen) }
      #expect(isMoving == (ending == .wait) && !isFrozen)
      #expect(SmallFile.exists(rig.mapPath) == (ending == .wait))
    }
  }

  /// A server that is being dialled, or is slow to answer, holds up the move that wants it and nobody else.
  @Test(.timeLimit(.minutes(1)), arguments: [false, true])
  func ordersDontWaitForConnections(isBackup: Bool) async throws {
    let rig = try MoveRig(isPrompt: false)
    let refusals = Guarded<[any Error]>([])
    @Sendable func slow(_ target: FailingTarget) -> MoveDestination {
      MoveDestination(uri: target.server.uri, exportName: "disk") {
        if refusals.read({ $0.isEmpty }) {
          _ = WorkerThread("cancel") {
            do { try rig.movable.cancelMove() } catch { refusals.update { $0.append(error) } }
          }
          while refusals.wait(until: { $0.isEmpty ? nil : true }) == nil {}
        }
        return try UnixSocket.connect(path: target.server.socket)
      }
    }
    try await WorkerThread.run("move") {
      var wish = rig.wish(.snapmig)
      var snapshot = try rig.snapshot()
      if isBackup { snapshot.backups = [slow(rig.backup)] }
      wish.snapshot = snapshot
      try rig.movable.move(to: isBackup ? rig.target.destination : slow(rig.target), wish)
    }
    try await rig.until("copied") { $0.phase == .copied }
    #expect(refusals.read { $0.count == 1 && $0.first is MoveError })
  }
}
