import Base
import Foundation
import HostIO
import QEMUStream
import QMP
import Strategy
import Testing

@testable import Agent

/// Two real QEMUs: a stopped source whose ordinary pre-copy stream was read to its end, and a destination
/// that is ready for post-copy and waits for its stream.
final class PullPair {
  let source: RunningQEMU
  let destination: RunningQEMU
  let from: Monitor
  let to: Monitor
  let guest: StoppedGuest
  /// The destination's end of the stream.
  let qemu: StreamSocket
  /// Pages that are sent before the handover as they are, and others that are stale or never sent.
  let sent: [Int]
  let stale: [Int]
  let invalid: PageBitmap

  static let staleBytes = [UInt8](repeating: 0xEE, count: Page.size)
  private static let memory = [
    "-object", "memory-backend-memfd,id=mem0,size=65664K,share=on",
    "-machine", "pc,memory-backend=mem0",
  ]

  init(_ program: QEMUProgram) async throws {
    source = try await RunningQEMU(program, Self.memory)
    destination = try await RunningQEMU(program, Self.memory + ["-S", "-incoming", "defer"])
    from = try await Monitor.connect(path: source.monitorPath, timeoutMs: 60_000)
    to = try await Monitor.connect(path: destination.monitorPath, timeoutMs: 60_000)
    try await from.client.stop()
    try await Self.fill(from.client, pid: source.pid)

    let path = source.folder.path() + "/out.sock"
    let listener = try UnixSocket.listen(path: path)
    try await from.client.migrate(uri: "unix:" + path)
    let guest = try await Blocking.run {
      let socket = try #require(try listener.accept(timeoutMs: 60_000))
      return try StoppedGuest.read(from: socket)
    }
    self.guest = guest

    try await to.client.migrateSetCapabilities(["postcopy-ram": true, "return-path": true])
    let entrance = destination.folder.path() + "/in.sock"
    try await to.client.migrateIncoming(uri: "unix:" + entrance)
    qemu = try await Blocking.run { try UnixSocket.connect(path: entrance) }

    var (sent, stale, invalid) = ([Int](), [Int](), PageBitmap(count: guest.numbering.limit))
    for block in guest.blocks.indices {
      for page in 0..<guest.blocks[block].pageCount {
        let number = guest.numbering.number(block: block, page: page)
        let kind = page / 7 % 3
        if kind == 0 { sent.append(number) } else { invalid[number] = true }
        if kind == 1 { stale.append(number) }
      }
    }
    (self.sent, self.stale, self.invalid) = (sent, stale, invalid)
  }

  /// Header, configuration, ADVISE, RAM's START.
  var head: [UInt8] {
    var bytes = guest.head
    PostcopyWriter.advise(opensReturnPath: true, into: &bytes)
    return bytes + guest.start
  }

  /// Everything before DISCARD.
  var prologue: [UInt8] {
    var bytes = head
    var writer = RAMWriter(sectionID: guest.sectionID, blocks: guest.blocks)
    writer.beginPart(into: &bytes)
    for (pages, isStale) in [(sent, false), (stale, true)] {
      for page in pages {
        let block = guest.numbering.block(of: page)
        let offset = UInt64(page - guest.numbering.bases[block]) << 12
        if let content = isStale ? Self.staleBytes : guest.pages[page] {
          writer.page(block: block, offset: offset, bytes: content.span.bytes, into: &bytes)
        } else {
          writer.zeroPage(block: block, offset: offset, into: &bytes)
        }
      }
    }
    writer.endSection(into: &bytes)
    return bytes
  }

  /// The source's memory, to be written to: the guest has stopped.
  func sourceMemory() async throws -> (name: String, file: SharedFile) {
    let block = try #require(
      try await SharedMemoryBackend.locate(from.client, pid: source.pid).first)
    return try await Blocking.run {
      (
        block.blockName,
        try SharedFile(path: block.path, offset: block.offset, length: block.length, writable: true)
      )
    }
  }

  /// Something to compare: 16 MiB of noise in the middle of RAM.
  private static func fill(_ client: QMPClient, pid: Int32) async throws {
    let found = try await SharedMemoryBackend.locate(client, pid: pid)
    let block = try #require(found.first)
    try await Blocking.run {
      let memory = try SharedFile(
        path: block.path, offset: block.offset, length: block.length, writable: true)
      var random = SplitMix64(seed: 3)
      let noise = (0..<(16 << 20) / 8).map { _ in random.next() }
      try noise.withUnsafeBytes { try memory.write($0, at: 32 << 20) }
    }
  }

  /// Waits until the destination's migration is in this state, or has failed.
  func wait(for wanted: MigrationStatus) async throws -> MigrationStatus {
    while true {
      let info = try await to.client.queryMigrate()
      if info.status == wanted || info.status == .failed { return info.status }
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  /// The destination's run state, once it has loaded its devices.
  func loadedState() async throws -> RunState {
    while true {
      let state = try await to.client.queryStatus().state
      if state != .inMigrate { return state }
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  /// How many pages of guest RAM differ between the two QEMUs.
  func differences() async throws -> Int {
    let a = try #require(
      try await SharedMemoryBackend.locate(from.client, pid: source.pid).first)
    let b = try #require(
      try await SharedMemoryBackend.locate(to.client, pid: destination.pid).first)
    return try await Blocking.run {
      let (left, right) = (
        try SharedFile(path: a.path, offset: a.offset, length: a.length, writable: false),
        try SharedFile(path: b.path, offset: b.offset, length: b.length, writable: false)
      )
      let (one, two) = (PageBuffer(byteCount: Page.size), PageBuffer(byteCount: Page.size))
      var count = 0
      for place in stride(from: 0, to: a.length, by: Page.size) {
        try left.read(at: place, into: one.part(0, Page.size))
        try right.read(at: place, into: two.part(0, Page.size))
        if memcmp(one.base, two.base, Page.size) != 0 { count += 1 }
      }
      return count
    }
  }
}
