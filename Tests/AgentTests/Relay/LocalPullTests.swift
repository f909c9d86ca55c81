import Base
import Compaction
import Foundation
import HostIO
import QEMUStream
import QMP
import Strategy
import Testing
import Wire

@testable import Agent

/// Pages of a pull that the destination makes of what it has, in place of pulling them; real QEMUs under TCG.
@Suite(.serialized, .timeLimit(.minutes(3)), .enabled(if: !QEMUProgram.installed.isEmpty))
struct LocalPullTests {
  /// What the guest has not written since is made; the rest is pulled.
  @Test(arguments: QEMUProgram.installed, [true, false])
  func whatIsThereIsNotPulled(program: QEMUProgram, isSnapshot: Bool) async throws {
    let pair = try await PullPair(program)
    let scratch = try ImageScratch()
    let noise = try await pair.missingNoise()
    let changed = noise.enumerated().filter { $0.offset % 10 == 0 }.map(\.element)
    let kept = try await isSnapshot ? pair.keep(in: scratch.path).held : nil
    let images = try await isSnapshot ? nil : pair.image(in: scratch)
    try await pair.change(changed)
    let rig = try await LocalPullRig(pair, held: kept, images: images)
    let done = try await rig.end()
    #expect(try await pair.wait(for: .completed) == .completed)
    #expect(done.placedPages == UInt64(rig.invalid.population))
    let made = isSnapshot ? done.snapshotPages : done.diskPages
    // Some go over the link while it has nothing else to do: as many more as this machine lets the makers wait.
    let unchanged = UInt64(noise.count - changed.count)
    #expect(made > unchanged / 4, "\(done)")
    #expect(made == done.snapshotPages + done.diskPages)
    #expect(rig.feeder.counters.unmade == 0)
    let pulled = done.placedPages - made
    #expect(rig.wireBytes.read { $0 } < pulled * 4200 + made * 64 + 300_000)
    #expect(try await pair.differences() == 0)
    try await pair.to.client.cont()
    #expect(try await pair.to.client.queryStatus().isRunning)
    try await rig.stop()
  }

  /// The guest runs at once, and its faults go first.
  @Test(arguments: QEMUProgram.installed)
  func theGuestRunsMeanwhile(program: QEMUProgram) async throws {
    let pair = try await PullPair(program)
    let scratch = try ImageScratch()
    let held = try await pair.keep(in: scratch.path).held
    let rig = try await LocalPullRig(pair, held: held, isHeld: true)
    #expect(try await pair.wait(for: .postcopyActive) == .postcopyActive)
    #expect(try await pair.loadedState() == .paused)
    try await pair.to.client.cont()
    let (server, feeder) = (rig.server, rig.feeder)
    let urgent = try await Blocking.run {
      for _ in 0..<6000 where server.counters.pages.urgentPages == 0 {
        MonotonicClock.sleep(us: 10_000)
      }
      return server.counters.pages.urgentPages
    }
    #expect(urgent > 0, "the guest waited for no page")
    #expect(feeder.counters.ofSnapshot == 0)
    server.setPrefetching(true)
    let done = try await rig.end()
    #expect(try await pair.wait(for: .completed) == .completed)
    #expect(done.placedPages == UInt64(rig.invalid.population))
    #expect(done.faultPages > 0 && done.snapshotPages > 0, "\(done)")
    #expect(try await pair.to.client.queryStatus().isRunning)
    try await rig.stop()
  }

  /// What the snapshot holds is no longer what it was: found out page for page, and pulled.
  @Test func aDamagedSnapshotCostsBandwidthAlone() async throws {
    let pair = try await PullPair(QEMUProgram.installed[0])
    let scratch = try ImageScratch()
    let (held, path) = try await pair.keep(in: scratch.path)
    try await Blocking.run {
      var bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
      for place in stride(from: bytes.count / 2, to: bytes.count - 100, by: 4096) {
        bytes[place] ^= 1
      }
      // In place: the file is open already.
      let handle = try FileHandle(forWritingTo: URL(filePath: path))
      try handle.write(contentsOf: Data(bytes))
      try handle.close()
    }
    let rig = try await LocalPullRig(pair, held: held)
    let done = try await rig.end()
    #expect(done.placedPages == UInt64(rig.invalid.population))
    #expect(rig.feeder.counters.unmade > 0 && done.snapshotPages > 0, "\(done)")
    #expect(try await pair.wait(for: .completed) == .completed)
    #expect(try await pair.differences() == 0)
    try await rig.stop()
  }

  @Test func connectionsBreak() async throws {
    let pair = try await PullPair(QEMUProgram.installed[0])
    let scratch = try ImageScratch()
    let held = try await pair.keep(in: scratch.path).held
    let rig = try await LocalPullRig(pair, held: held, isHeld: true)
    let (server, feeder, missing) = (rig.server, rig.feeder, rig.invalid.population)
    // Once for certain; the others may come when all is there.
    rig.cut()
    try await Blocking.run {
      while server.counters.breaks == 0 { MonotonicClock.sleep(us: 1000) }
    }
    server.setPrefetching(true)
    for part in 1...3 {
      try await Blocking.run {
        while feeder.missingCount > missing - missing * part / 5 {
          MonotonicClock.sleep(us: 200)
        }
      }
      rig.cut()
    }
    let done = try await rig.end()
    #expect(done.placedPages == UInt64(missing) && done.snapshotPages > 0, "\(done)")
    #expect(rig.server.counters.breaks > 0)
    #expect(try await pair.wait(for: .completed) == .completed)
    #expect(try await pair.differences() == 0)
    try await rig.stop()
  }
}

/// Proof of pages that no honest source sends.
@Suite(.timeLimit(.minutes(3))) struct PullProofTests {
  static let block = RAMBlock(name: "mem0", length: 64 << 12)
  static let proof = [UInt8](repeating: 7, count: 32)

  private let guest: KeptGuest
  private let snapshot: HeldSnapshot

  init() throws {
    guest = try KeptGuest([Self.block])
    try guest.fill(0..<32, seed: 1)
    let vault = guest.vault()
    try guest.keep(in: vault)
    snapshot = try HeldSnapshot(
      path: try #require(vault.newest(guest: "web-1", uuid: "u-1")).path)
  }

  /// - Returns: a feeder whose QEMU is the other end of a socket, what it asks for, and what it says.
  private func feeder(
    _ qemu: StreamSocket, local: LocalPages?
  ) throws -> (PullFeeder, Events<[PullRequest]>, Events<PullFeeder.Event>) {
    let (asked, events) = (Events<[PullRequest]>(), Events<PullFeeder.Event>())
    var invalid = PageBitmap(count: PageNumbering(blockPages: [64]).limit)
    for page in 0..<64 { invalid[page] = true }
    let feeder = try PullFeeder(
      qemu: qemu, blocks: [Self.block], sectionID: 2, invalid: invalid, local: local,
      ask: { (requests) throws(RelayFailure) in asked.add(requests) }, onEvent: { events.add($0) })
    return (feeder, asked, events)
  }

  private func frame(
    _ identity: PullIdentity, block: UInt16 = 0, page: UInt64 = 0, count: Int = 1
  ) -> PullIdentities {
    PullIdentities(
      block: block, firstPage: page, identities: Array(repeating: identity, count: count))
  }

  @Test func whatWasNotAgreedOnIsRefused() throws {
    let (qemu, _) = try Sockets.unixPair()
    let (without, _, _) = try feeder(qemu, local: nil)
    #expect(throws: RelayFailure.self) { try without.identified(frame(.unknown)) }
    let (with, _, _) = try feeder(
      qemu, local: LocalPages(snapshot: snapshot, images: nil, blocks: [Self.block]))
    let note = DiskNote(image: 0, block: 1, identity: Self.proof)
    for bad in [
      frame(.disk(note)), frame(.held(Self.proof), block: 1), frame(.held(Self.proof), page: 64),
      frame(.unknown, page: 60, count: 5),
    ] {
      #expect(throws: RelayFailure.self) { try with.identified(bad) }
    }
  }

  /// Only pages of the snapshot are asked about; a proof that is wrong, or that nobody asked for, places nothing.
  @Test func wrongProofPlacesNothing() throws {
    let (qemu, far) = try Sockets.unixPair()
    let local = try #require(
      LocalPages(snapshot: snapshot, images: nil, blocks: [Self.block]))
    let (feeder, asked, _) = try feeder(qemu, local: local)
    defer {
      far.shutdown()
      feeder.stop()
    }
    feeder.beginLocal()
    try feeder.resume(ReturnPathSoFar())
    let questions = asked.all.joined().filter { $0.kind == .identities }
    #expect(questions.reduce(0) { $0 + $1.count } == 32)
    #expect(questions.allSatisfy { $0.firstPage + UInt64($0.count) <= 32 })
    // The last one is right. Together: what is known while others take long to be made may be left to the source.
    let content = KeptGuest.content(9, seed: 1)
    let identity = PageIdentity.bytes(of: content.span.bytes)
    let wrong = frame(.held(Self.proof), count: 9).identities
    try feeder.identified(
      PullIdentities(block: 0, firstPage: 0, identities: wrong + [.held(identity)]))
    try feeder.identified(frame(.held(Self.proof), page: 40, count: 8))
    // The pages that could not be made are asked for.
    let isAsked = asked.first { requests in
      requests.contains { $0.kind == .ahead && $0.firstPage < 9 } ? true : nil
    }
    #expect(isAsked == true)
    far.setTimeout(ms: 60_000)
    let buffer = PageBuffer(byteCount: 1 << 16)
    var bytes = Data()
    while bytes.range(of: Data(content)) == nil {
      let count = try far.read(into: buffer.part(0, buffer.byteCount))
      try #require(count > 0)
      bytes.append(contentsOf: buffer.part(0, count))
    }
    #expect(feeder.counters.placed == 1 && feeder.counters.ofSnapshot == 1)
    #expect(feeder.missingCount == 63)
  }
}
