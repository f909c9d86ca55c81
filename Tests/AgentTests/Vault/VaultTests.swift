import Base
import Compaction
import Foundation
import Glibc
import HostIO
import QEMUStream
import Testing

@testable import Agent

@Suite struct VaultTests {
  static let blocks = [
    RAMBlock(name: "mem0", length: 700 << 12), RAMBlock(name: "pc.bios", length: 8 << 12),
  ]

  private func guest() throws -> KeptGuest {
    let guest = try KeptGuest(Self.blocks)
    try guest.fill(100..<500, seed: 1)
    try guest.fill(2..<4, block: 1, seed: 2)
    return guest
  }

  private func mode(_ path: String) throws -> Int {
    let attributes = try FileManager.default.attributesOfItem(atPath: path)
    return try #require(attributes[.posixPermissions] as? Int)
  }

  @Test func whatIsKeptIsThere() throws {
    let guest = try guest()
    let vault = guest.vault()
    let kept = try guest.keep(in: vault)
    #expect(kept.pages == 402 && kept.zeroPages == 306)
    let entry = try #require(vault.newest(guest: "web-1", uuid: "u-1"))
    #expect(entry.bytes == kept.bytes && entry.problem == nil)
    #expect(vault.newest(guest: "web-1", uuid: "u-2") == nil)
    #expect(vault.newest(guest: "web-2", uuid: "u-1") == nil)
    #expect(try mode(entry.path) == 0o600)
    #expect(try mode(vault.directory) == 0o700)
    try SnapshotFile(path: entry.path).verify { false }

    let held = try HeldSnapshot(path: entry.path)
    var page = [UInt8](repeating: 0, count: Page.size)
    func read(_ block: String, _ number: UInt64) -> Bool {
      page.withUnsafeMutableBytes { held.read(block: block, page: number, into: $0) }
    }
    for number in [100, 355, 356, 499] {
      #expect(read("mem0", UInt64(number)))
      #expect(page == KeptGuest.content(number, seed: 1), "page \(number)")
    }
    #expect(read("pc.bios", 3) && page == KeptGuest.content(3, seed: 2))
    #expect(!read("mem0", 99) && !read("mem0", 500) && !read("other", 100))
    #expect(!read("mem0", .max))
  }

  /// Its own first, and others' only where the operator says so.
  @Test func guestsOfOneGroupShareWhatIsKept() throws {
    let guest = try guest()
    let vault = guest.vault()
    try guest.keep(in: vault)
    try guest.keep(in: vault, guest: "db-1")
    let rules = [ShareRule(group: "web", vms: ["web-*"])]
    func kept(_ name: String, _ rules: [ShareRule]) -> String? {
      vault.newest(guest: name, uuid: "u-9", sharing: rules)?.head?.guest
    }
    #expect(kept("web-2", rules) == "web-1")
    #expect(kept("web-2", []) == nil && kept("db-2", rules) == nil && kept("db-1", rules) == nil)
    #expect(vault.newest(guest: "db-1", uuid: "u-1", sharing: rules)?.head?.guest == "db-1")
    try guest.keep(in: vault, guest: "web-2", uuid: "u-9")
    #expect(kept("web-2", rules) == "web-2")
  }

  /// What a later snapshot replaces goes when that is whole, and not before.
  @Test func oneSnapshotAGuest() throws {
    let guest = try guest()
    let vault = guest.vault()
    try guest.keep(in: vault)
    try guest.keep(in: vault, guest: "db-1")
    let first = try #require(vault.newest(guest: "web-1", uuid: "u-1"))
    #expect(throws: VaultError.self) {
      try guest.keep(in: vault, isCalledOff: { true })
    }
    #expect(vault.newest(guest: "web-1", uuid: "u-1")?.id == first.id)
    vault.noteUse(first.id)
    vault.noteUse(first.id)
    #expect(vault.newest(guest: "web-1", uuid: "u-1")?.uses == 2)
    try guest.keep(in: vault)
    let entries = vault.entries()
    #expect(entries.count == 2 && !entries.contains { $0.id == first.id })
    let names = try FileManager.default.contentsOfDirectory(atPath: vault.directory)
    #expect(names.filter { $0 != "lock" }.count == 2, "\(names)")
  }

  /// A file that was cut anywhere is no snapshot.
  @Test func tornFilesAreFound() throws {
    let guest = try KeptGuest([RAMBlock(name: "mem0", length: 8 << 12)])
    try guest.fill(3..<5, seed: 1)
    let vault = guest.vault()
    try guest.keep(in: vault)
    let path = try #require(vault.newest(guest: "web-1", uuid: "u-1")).path
    let whole = try Data(contentsOf: URL(filePath: path))
    // Shorter and shorter: thousands of writes of the whole file would wait for the device.
    for count in (0..<whole.count).reversed() {
      #expect(truncate(path, off_t(count)) == 0)
      #expect(throws: VaultError.self, "\(count) bytes") { try SnapshotFile(path: path) }
    }
    try whole.write(to: URL(filePath: path))
    #expect(vault.newest(guest: "web-1", uuid: "u-1") != nil)
  }

  /// Any byte that is changed is found by `verify`, and nothing is ever read from beyond a file.
  @Test func damageIsFound() throws {
    let guest = try KeptGuest([RAMBlock(name: "mem0", length: 8 << 12)])
    try guest.fill(3..<5, seed: 1)
    let vault = guest.vault()
    try guest.keep(in: vault)
    let path = try #require(vault.newest(guest: "web-1", uuid: "u-1")).path
    let whole = [UInt8](try Data(contentsOf: URL(filePath: path)))
    for place in stride(from: 0, to: whole.count, by: 13) {
      var changed = whole
      changed[place] ^= 0x20
      try Data(changed).write(to: URL(filePath: path))
      #expect(throws: VaultError.self, "byte \(place)") {
        try SnapshotFile(path: path).verify { false }
      }
    }
    // In the last page's content: only reading all of it finds that.
    var changed = whole
    changed[whole.count - VaultEnd.byteCount - 9] ^= 1
    try Data(changed).write(to: URL(filePath: path))
    #expect(try vault.answer(VaultRequest(.list)).map(\.state) == [.whole])
    #expect(try vault.answer(VaultRequest(.verify)).map(\.state) == [.damaged])
    #expect(try vault.answer(VaultRequest(.prune)) == [])
    try Data(whole[..<100]).write(to: URL(filePath: path))
    #expect(try vault.answer(VaultRequest(.list)).map(\.state) == [.damaged])
    #expect(try vault.answer(VaultRequest(.prune)).map(\.state) == [.removed])
    #expect(vault.entries().isEmpty)
  }

  /// What a dead agent was writing goes; what a living one writes stays.
  @Test func unfinishedFilesAreNoSnapshots() throws {
    let guest = try guest()
    let vault = guest.vault()
    try guest.keep(in: vault)
    let head = try #require(
      VaultHead(
        id: VaultID(high: 1, low: 1), takenAt: 5, seed: 1, guest: "web-1", uuid: "u-1",
        blocks: [.init(name: "mem0", pages: 700)]))
    var writer: SnapshotWriter? = try vault.begin(head)
    for page in 0..<300 {
      try writer?.add(
        block: 0, page: UInt64(page), KeptGuest.content(page, seed: 9).span.bytes)
    }
    #expect(vault.removeLeftovers() == 0)
    #expect(vault.entries().count == 1)
    writer = nil
    #expect(vault.entries().count == 1)
    #expect(vault.removeLeftovers() == 1)
    #expect(vault.newest(guest: "web-1", uuid: "u-1") != nil)
  }

  @Test func theQuotaHolds() throws {
    let guest = try guest()
    let bytes = try #require(try guest.keep(in: guest.vault(), guest: "a").bytes)
    // Less than all of the guest could take: nothing is kept, and nothing makes way.
    let small = guest.vault(quotaBytes: bytes * 2)
    #expect(throws: VaultError.self) { try guest.keep(in: small, guest: "b") }
    #expect(small.entries().map { $0.head?.guest } == ["a"])
    #expect(throws: VaultError.self) { try guest.keep(in: guest.vault(quotaBytes: 0)) }
    let vault = guest.vault(quotaBytes: bytes * 2 + UInt64(VaultSegment.byteCount(pages: 1400)))
    for name in ["a", "b", "c", "d"] { try guest.keep(in: vault, guest: name) }
    #expect(vault.entries().count == 3)
    #expect(vault.entries().contains { $0.head?.guest == "d" })
    // The quota was made smaller.
    let less = guest.vault(quotaBytes: bytes)
    #expect(try less.answer(VaultRequest(.prune)).count == 2)
    #expect(less.entries().count == 1)
  }

  @Test func whatIsNamedIsRemoved() throws {
    let guest = try guest()
    let vault = guest.vault()
    #expect(try vault.answer(VaultRequest(.prune, all: true)) == [])
    for name in ["a", "b", "c"] { try guest.keep(in: vault, guest: name, uuid: "u-\(name)") }
    #expect(throws: ControlError.self) { try vault.answer(VaultRequest(.prune, targets: ["x"])) }
    let id = "\(try #require(vault.newest(guest: "c", uuid: "u-c")).id)"
    let removed = try vault.answer(VaultRequest(.prune, targets: ["u-a", String(id.prefix(8))]))
    #expect(Set(removed.map(\.vm)) == ["a", "c"] && removed.allSatisfy { $0.state == .removed })
    let list = try vault.answer(VaultRequest(.list, targets: ["b"]))
    #expect(list.map(\.vm) == ["b"] && list.first?.state == .whole && list.first?.pages == 402)
    #expect(try vault.answer(VaultRequest(.prune, all: true)).count == 1)
  }
}
