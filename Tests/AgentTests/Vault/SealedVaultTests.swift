import Base
import Compaction
import Foundation
import Glibc
import HostIO
import QEMUStream
import Testing

@testable import Agent

/// Kept memory that takes the host's key to read.
@Suite struct SealedVaultTests {
  static let key = String(repeating: "0a", count: 32)

  private func guest(pages: Int = 700) throws -> KeptGuest {
    let guest = try KeptGuest([RAMBlock(name: "mem0", length: UInt64(pages) << 12)])
    try guest.fill(0..<pages / 2, seed: 1)
    return guest
  }

  private func keyFile(
    _ guest: KeptGuest, _ text: String = Self.key, name: String = "key", mode: mode_t = 0o600
  ) throws -> String {
    let path = guest.folder + "/" + name
    try Data(text.utf8).write(to: URL(filePath: path))
    #expect(chmod(path, mode) == 0)
    return path
  }

  private func vault(_ guest: KeptGuest, key: String?) -> Vault {
    Vault(directory: guest.folder + "/state/vault", quotaBytes: 1 << 30, keyFile: key)
  }

  @Test func whatIsSealedComesBack() throws {
    let guest = try guest()
    let vault = vault(guest, key: try keyFile(guest))
    let kept = try guest.keep(in: vault)
    let entry = try #require(vault.newest(guest: "web-1", uuid: "u-1"))
    #expect(entry.isSealed && entry.bytes == kept.bytes && entry.head?.guest == "web-1")
    let secret = try vault.secret()
    try SnapshotFile(path: entry.path, secret: secret).verify { false }
    let held = try HeldSnapshot(path: entry.path, secret: secret)
    var page = [UInt8](repeating: 0, count: Page.size)
    for number in 0..<350 {
      let isThere = page.withUnsafeMutableBytes {
        held.read(block: "mem0", page: UInt64(number), into: $0)
      }
      #expect(isThere && page == KeptGuest.content(number, seed: 1), "page \(number)")
    }
    #expect(try vault.answer(VaultRequest(.verify)).map(\.isSealed) == [true])
    // Neither a page nor the guest's name is in the file.
    let bytes = try Data(contentsOf: URL(filePath: entry.path))
    #expect(bytes.range(of: Data("web-1".utf8)) == nil)
    for number in [0, 100, 349] {
      let content = Data(KeptGuest.content(number, seed: 1)[..<16])
      #expect(bytes.range(of: content) == nil)
    }
  }

  @Test func withoutTheKeyItIsOfNoUse() throws {
    let guest = try guest()
    try guest.keep(in: vault(guest, key: try keyFile(guest)))
    let other = try keyFile(guest, String(repeating: "0b", count: 32), name: "other")
    for key in [nil, other] {
      let vault = vault(guest, key: key)
      let entry = try #require(vault.entries().first)
      #expect(entry.head == nil && entry.problem != nil)
      #expect(vault.newest(guest: "web-1", uuid: "u-1") == nil)
      #expect(throws: (any Error).self) {
        try HeldSnapshot(path: entry.path, secret: try vault.secret())
      }
      #expect(try vault.answer(VaultRequest(.verify)).map(\.state) == [.damaged])
    }
    // Where no key is named nothing is removed for want of it.
    #expect(try vault(guest, key: nil).answer(VaultRequest(.prune)).isEmpty)
    // What was kept before there was a key is read with one, too.
    let plain = vault(guest, key: nil)
    try guest.keep(in: plain, guest: "db-1")
    let both = vault(guest, key: guest.folder + "/key")
    #expect(Set(both.entries().compactMap { $0.head?.guest }) == ["web-1", "db-1"])
    #expect(both.newest(guest: "db-1", uuid: "u-1")?.isSealed == false)
  }

  /// Whatever is changed is found, and so is a file that was cut, or made of two.
  @Test func damageIsFound() throws {
    let guest = try guest(pages: 12)
    let key = try keyFile(guest)
    let vault = vault(guest, key: key)
    try guest.keep(in: vault)
    let secret = try vault.secret()
    let path = try #require(vault.newest(guest: "web-1", uuid: "u-1")).path
    let whole = [UInt8](try Data(contentsOf: URL(filePath: path)))
    func expectDamaged(_ bytes: [UInt8], _ what: String) throws {
      try Data(bytes).write(to: URL(filePath: path))
      #expect(throws: (any Error).self, "\(what)") {
        try SnapshotFile(path: path, secret: secret).verify { false }
      }
    }
    for place in stride(from: 0, to: whole.count, by: 61) {
      var changed = whole
      changed[place] ^= 0x20
      try expectDamaged(changed, "byte \(place)")
    }
    let chunk = SealedHead.chunkBytes + SealedHead.tagByteCount
    let first = SealedHead.byteCount
    for count in [0, 39, 40, 100, first + chunk, first + 2 * chunk, whole.count - 1] {
      try expectDamaged(Array(whole[..<count]), "\(count) bytes")
    }
    var swapped = whole
    swapped.replaceSubrange(
      first + chunk..<first + 2 * chunk, with: whole[first + 2 * chunk..<first + 3 * chunk])
    try expectDamaged(swapped, "a chunk in another's place")
    try Data(whole).write(to: URL(filePath: path))
    try SnapshotFile(path: path, secret: secret).verify { false }
  }

  @Test func keysThatCannotBeUsed() throws {
    let guest = try guest(pages: 8)
    for (name, text, mode) in [
      ("open", Self.key, 0o644), ("short", "0a0b", 0o600), ("long", Self.key + "0a", 0o600),
      ("letters", String(repeating: "zz", count: 32), 0o600), ("empty", "", 0o600),
    ] as [(String, String, mode_t)] {
      let path = try keyFile(guest, text, name: name, mode: mode)
      #expect(throws: VaultError.self, "\(name)") { try VaultSecret(path: path) }
      let vault = vault(guest, key: path)
      #expect(throws: VaultError.self, "\(name)") { try guest.keep(in: vault) }
      #expect(vault.entries().isEmpty)
    }
    #expect(throws: VaultError.self) { try VaultSecret(path: guest.folder) }
    #expect(throws: VaultError.self) { try VaultSecret(path: guest.folder + "/none") }
    // The same key in all of its forms.
    let raw = guest.folder + "/raw"
    try Data(repeating: 0x0A, count: 32).write(to: URL(filePath: raw))
    #expect(chmod(raw, 0o400) == 0)
    try guest.keep(in: vault(guest, key: raw))
    for text in [Self.key, Self.key + "\n", Self.key.uppercased()] {
      let key = try keyFile(guest, text, name: "form")
      #expect(vault(guest, key: key).newest(guest: "web-1", uuid: "u-1") != nil)
    }
  }
}
