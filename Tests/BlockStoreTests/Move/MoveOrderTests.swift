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
}
