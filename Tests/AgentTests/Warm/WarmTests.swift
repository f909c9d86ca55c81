import Base
import Compaction
import Foundation
import HostIO
import QEMUStream
import Testing
import Wire

@testable import Agent

/// Memory that is copied into another host's vault while its guest runs.
@Suite(.serialized, .timeLimit(.minutes(5))) struct WarmTests {
  static let blocks = [
    RAMBlock(name: "mem0", length: 500 << 12), RAMBlock(name: "vga", length: 40 << 12),
  ]

  let guest: KeptGuest
  let configuration: AgentConfiguration

  init() throws {
    guest = try KeptGuest(Self.blocks)
    var configuration = AgentConfiguration()
    configuration.stateDirectory = guest.folder + "/state"
    self.configuration = configuration
    // Some pages stay zero, and some hold nothing but zeros that were written.
    try guest.fill((0..<500).filter { $0 % 5 != 4 }, seed: 1)
    try guest.fill(3..<9, block: 1, seed: 1)
    let zeros = [UInt8](repeating: 0, count: Page.size)
    try zeros.withUnsafeBytes { try guest.files[0].write($0, at: 4 << 12) }
  }

  private var vault: Vault { Vault(configuration) }

  private func pass(_ stop: WarmStop = WarmStop(), rate: UInt64 = 1 << 30) throws
    -> WarmPass
  {
    WarmPass(
      memory: SampledMemory(
        shared: zip(Self.blocks, guest.files).map { (name: $0.name, file: $1) }),
      guest: "web-1", uuid: "u-1", filterBytesMax: 64 << 20,
      rate: try #require(ByteRate(bytesPerSecond: rate)), share: nil, stop: stop)
  }

  /// Runs a pass against a receiver with this configuration.
  private func copy(
    _ pass: WarmPass, _ configuration: AgentConfiguration? = nil,
    progress: @escaping (WarmLook) -> Void = { _ in }
  ) throws -> WarmRecord {
    let (near, far) = try Sockets.tcpPair()
    let receiver = WarmReceiver(configuration ?? self.configuration)
    let server = WorkerThread("test-warm") {
      try? receiver.serve(far)
      far.finish()
    }
    defer {
      near.shutdown()
      server.join()
    }
    return try pass.run(near, progress: progress)
  }

  private func expectKept(_ block: String, _ pages: [Int], seed: UInt64) throws {
    let entry = try #require(vault.newest(guest: "web-1", uuid: "u-1"))
    let snapshot = try HeldSnapshot(path: entry.path)
    let buffer = PageBuffer(byteCount: Page.size)
    for page in pages {
      let isThere = snapshot.read(
        block: block, page: UInt64(page), into: buffer.part(0, Page.size))
      #expect(isThere && Array(buffer.part(0, Page.size)) == KeptGuest.content(page, seed: seed))
    }
  }

  @Test func aFirstPassCopiesAll() throws {
    var looks: [WarmLook] = []
    let record = try copy(pass()) { looks.append($0) }
    #expect(record.sentPages == 406 && record.heldPages == 0 && record.zeroPages == 134)
    #expect(record.keptPages == 406 && record.unseenPages == 0)
    // Random pages: nothing makes them smaller.
    #expect(record.wireBytes > 406 << 12 && record.keptBytes > 406 << 12)
    let first = try #require(looks.first)
    #expect(first.ramBytes == 540 << 12 && first.doneBytes <= first.ramBytes)
    let entries = vault.entries()
    #expect(entries.count == 1 && entries.first?.head?.guest == "web-1")
    #expect(entries.first?.end?.zeroPages == 134)
    try SnapshotFile(path: try #require(entries.first).path).verify { false }
    try expectKept("mem0", (0..<500).filter { $0 % 5 != 4 }, seed: 1)
    try expectKept("vga", Array(3..<9), seed: 1)
  }

  @Test func aLaterPassSendsWhatChanged() throws {
    let first = try copy(pass())
    let changed = Array(stride(from: 0, to: 500, by: 25))
    try guest.fill(changed, seed: 2)
    let second = try copy(pass())
    #expect(second.sentPages == 20 && second.heldPages == 386 && second.keptPages == 406)
    #expect(second.wireBytes < first.wireBytes / 10)
    #expect(vault.entries().count == 1)
    try expectKept("mem0", changed, seed: 2)
    try expectKept("mem0", [1, 2, 3, 26, 498], seed: 1)
    // As a return finds it.
    let entry = try #require(vault.newest(guest: "web-1", uuid: "u-1"))
    try SnapshotFile(path: entry.path).verify { false }
  }

  /// A page of the vault that is not what it was is left out of the new snapshot, which is sound.
  @Test func aDamagedSnapshotIsNotCopiedOn() throws {
    _ = try copy(pass())
    let path = try #require(vault.newest(guest: "web-1", uuid: "u-1")).path
    let handle = try FileHandle(forUpdating: URL(filePath: path))
    let size = try handle.seekToEnd()
    try handle.seek(toOffset: size / 2)
    let byte = try #require(try handle.read(upToCount: 1)?.first)
    try handle.seek(toOffset: size / 2)
    try handle.write(contentsOf: Data([byte ^ 1]))
    try handle.close()
    let second = try copy(pass())
    // All pages of the frame that it was in.
    #expect(second.heldPages == 406 && second.keptPages < 406 && second.keptPages >= 406 - 128)
    let entry = try #require(vault.newest(guest: "web-1", uuid: "u-1"))
    try SnapshotFile(path: entry.path).verify { false }
    let third = try copy(pass())
    #expect(third.keptPages == 406 && third.sentPages == 406 - second.keptPages)
  }

  /// Pages may be torn, the snapshot may not.
  @Test func theGuestWritesMeanwhile() throws {
    let isOver = Guarded(false)
    let file = guest.files[0]
    let writer = WorkerThread("test-writer") {
      var random = SplitMix64(seed: 5)
      while !isOver.read({ $0 }) {
        let page = random.next() % 500
        KeptGuest.content(Int(page), seed: random.next() % 3).withUnsafeBytes {
          _ = try? file.write($0, at: page << 12)
        }
      }
    }
    defer {
      isOver.update { $0 = true }
      writer.join()
    }
    for _ in 0..<3 {
      _ = try copy(pass())
      let entry = try #require(vault.newest(guest: "web-1", uuid: "u-1"))
      try SnapshotFile(path: entry.path).verify { false }
    }
  }

  @Test func aPassThatNobodyWantsLeavesNothing() throws {
    let stop = WarmStop()
    #expect(throws: CancellationError.self) {
      // Slow enough that it is far from its end.
      try copy(pass(stop, rate: 200_000)) { _ in stop.call() }
    }
    #expect(vault.entries().isEmpty)
    let left = try FileManager.default.contentsOfDirectory(atPath: vault.directory)
    #expect(!left.contains { $0.hasSuffix(Vault.partialSuffix) }, "\(left)")
  }

  /// It waits for an answer that never comes.
  @Test func aPassIsCalledOffInsideACall() throws {
    let stop = WarmStop()
    let (near, far) = try Sockets.tcpPair()
    let server = WorkerThread("test-warm") {
      guard case .begin? = try? FrameSocket(far).receiveWarmMessage() else { return }
      stop.call()
    }
    defer {
      near.shutdown()
      server.join()
    }
    #expect(throws: CancellationError.self) { try pass(stop).run(near) { _ in } }
    // One that was called off before it began does not begin.
    let (other, _) = try Sockets.tcpPair()
    #expect(throws: CancellationError.self) { try pass(stop).run(other) { _ in } }
  }

  /// A host that can write nothing says so, and why.
  @Test func aVaultThatCannotBeWrittenIsNamed() throws {
    var broken = configuration
    broken.stateDirectory = guest.folder + "/file"
    #expect(FileManager.default.createFile(atPath: broken.stateDirectory, contents: Data([1])))
    do {
      _ = try copy(pass(), broken)
      Issue.record("it was kept")
    } catch Ending.failed(let reason) {
      #expect(reason.hasPrefix("at the destination: "), "\(reason)")
    }
  }

  @Test func aHostMayDecline() throws {
    var closed = configuration
    closed.vaultQuotaBytes = 0
    var strict = configuration
    strict.allow = [AllowRule(peer: "*", vms: ["db-*"])]
    for configuration in [closed, strict] {
      do {
        _ = try copy(pass(), configuration)
        Issue.record("it was not declined")
      } catch Ending.refused(let refusals) {
        #expect(refusals.first?.code == .notAllowed)
      }
    }
    var small = configuration
    small.vaultQuotaBytes = 1 << 20
    #expect(throws: (any Error).self) { try copy(pass(), small) }
    #expect(vault.entries().isEmpty)
  }

  /// What no honest source sends ends the copy, and nothing of it stays.
  @Test(arguments: [0, 1, 2, 3, 4, 5]) func hostileSources(kind: Int) throws {
    let (near, far) = try Sockets.tcpPair()
    let frames = FrameSocket(near)
    let failure = Guarded<(any Error)?>(nil)
    let receiver = WarmReceiver(configuration)
    let server = WorkerThread("test-warm") {
      do { try receiver.serve(far) } catch { failure.update { $0 = error } }
      far.finish()
    }
    try frames.send(
      .begin(
        .init(
          vm: "web-1", uuid: "u-1", blocks: [.init(name: "mem0", pages: 10)], filterBytesMax: 0)))
    guard case .accepted(.none) = try frames.receiveWarmMessage() else {
      Issue.record("not accepted")
      return
    }
    func send(_ runs: [PageRun], kinds: [PageKind]) throws {
      let header = EncodedHeader(
        batch: BatchHeader(place: SequencedHeader(sequence: 1, after: 0), runs: runs),
        codec: .none, kinds: kinds, packedByteCount: 0)
      var head: [UInt8] = []
      header.encode(into: &head)
      head += [UInt8](repeating: 7, count: header.bodyByteCount)
      try frames.send(.encodedPages, head)
    }
    func run(_ block: UInt16, _ page: UInt64) -> PageRun {
      PageRun(block: block, pageClass: .raw, firstPage: page, count: 1)
    }
    switch kind {
    case 0: try send([run(0, 3), run(0, 3)], kinds: [.raw, .raw])
    case 1: try send([run(0, 10)], kinds: [.raw])
    case 2: try send([run(1, 0)], kinds: [.raw])
    case 3: try send([run(0, 1)], kinds: [.held])
    case 4: try frames.send(.end(zeroPages: 11))
    default: try frames.send(.accepted(nil))
    }
    server.join()
    let problem = failure.read { $0 }
    #expect(problem is RelayFailure, "\(problem as Any)")
    #expect(vault.entries().isEmpty)
    near.shutdown()
  }
}
