import Base
import Compaction
import HostIO
import QEMUStream
import Synchronization
import Wire

/// Memory of guests that came to this host in gangs, for pages of others of the same gang.
///
/// Such a guest may run already and have changed what it got: what is read here proves nothing, and whoever uses it
/// looks at its identity.
final class GangGuests: Sendable {
  /// How long memory of a guest that has arrived can be referred to, after its migration ended.
  static let lingerMs: UInt64 = 300_000
  /// Guests that are remembered after their migrations ended.
  static let endedMax = 256

  /// A guest of a gang.
  struct Key: Hashable, Sendable {
    let token: MigrationID
    let member: UInt16
  }

  private struct Guest {
    /// By number of the stream's blocks; nil where the memory can't be read. Empty before the stream named them.
    var places: [GuestPlace?] = []
    /// When its migration ended; nil: it runs.
    var endedAtMs: UInt64?
  }

  private let guests = Mutex<[Key: Guest]>([:])

  /// A migration brings this guest. False: the number is taken, and stays whose it is.
  func expect(_ key: Key) -> Bool {
    guests.withLock { guests in
      guard guests[key] == nil else { return false }
      guests[key] = Guest()
      return true
    }
  }

  /// The memory of a guest that is expected can be read from now on. Said too late, when its migration is over, it
  /// changes nothing: nobody would let go of it.
  func add(_ key: Key, _ places: [GuestPlace?]) {
    guests.withLock { guests in
      guard guests[key]?.places.isEmpty == true, guests[key]?.endedAtMs == nil else { return }
      guests[key]?.places = places
    }
  }

  func remove(_ key: Key) { guests.withLock { $0[key] = nil } }

  /// The guest runs here. Its memory is held on to no longer than its QEMU lives: `end` waits for that.
  func hasArrived(_ key: Key, nowMs: UInt64, end: @escaping @Sendable () async -> Void) {
    let isKnown = guests.withLock { guests -> Bool in
      guard guests[key] != nil else { return false }
      guests[key]?.endedAtMs = nowMs
      let ended = guests.compactMap { key, guest in guest.endedAtMs.map { (key, $0) } }
      if ended.count > Self.endedMax, let oldest = ended.min(by: { $0.1 < $1.1 }) {
        guests[oldest.0] = nil
      }
      return true
    }
    guard isKnown else { return }
    Task { [self] in
      await withTaskGroup(of: Void.self) { group in
        group.addTask { try? await Task.sleep(for: .milliseconds(Self.lingerMs)) }
        group.addTask { await end() }
        _ = await group.next()
        group.cancelAll()
      }
      remove(key)
    }
  }

  /// Copies what the noted page holds now; false when it is not there or can't be read.
  func read(
    _ note: GangNote, of token: MigrationID, into buffer: UnsafeMutableRawBufferPointer
  ) -> Bool {
    let block = Int(note.block)
    let place = guests.withLock { guests -> GuestPlace? in
      guard let places = guests[Key(token: token, member: note.member)]?.places,
        places.indices.contains(block)
      else { return nil }
      return places[block]
    }
    guard let place, note.page < place.pageCount else { return false }
    do { try unsafe place.read(page: note.page, into: buffer) } catch { return false }
    return true
  }

  var count: Int { guests.withLock { $0.count } }
}

/// The guests of one gang, as a migration into this host sees them.
struct HeldGang: Sendable {
  let guests: GangGuests
  let token: MigrationID

  /// Fills the places of `references` that are pages of other guests. Returns those that could not be read or are not
  /// what they should be, by their numbers in `pages`.
  func resolve(
    _ references: [(place: Int, reference: PageReference)], in pages: PageBuffer
  ) -> [Int] {
    var missing: [Int] = []
    for (index, reference) in references {
      guard case .gang(let note) = reference else { continue }
      let start = index * Page.size
      // A copy is judged, not the memory: its guest may be writing.
      guard unsafe guests.read(note, of: token, into: pages.part(start, Page.size)),
        PageIdentity.bytes(of: pages.span(start + Page.size).extracting(start...)) == note.identity
      else {
        missing.append(index)
        continue
      }
    }
    return missing
  }
}
