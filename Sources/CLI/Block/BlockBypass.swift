import Agent
import BlockStore
import HostIO
import NBD

/// Tells the server of a raw image that the guest's QEMU writes to the file itself, until it is attached or once it is detached:
/// what the server has noted since a snapshot isn't all then.
struct BlockBypass {
  /// For people.
  let disk: String
  let socket, export: String
  /// nil: where it is unless whoever started the server wanted another place.
  let control: String?

  /// Throws when the server refuses, or can't be told and has noted something.
  func tell() async throws {
    let client = BlockClient(path: control ?? socket + BlockClient.suffix)
    do {
      _ = try await client.exchange(BlockRequest(.bypass, disk: export))
    } catch {
      if let refusal = error as? ControlError, refusal.code == .refused { throw refusal }
      guard try await hasNotes() else { return }
      throw GuestDiskError.keepsNotes(disk, detail: TerminalText.plain("\(error)"))
    }
  }

  /// Any client is told so, also where nobody takes orders.
  private func hasNotes() async throws -> Bool {
    let (path, export) = (socket, export)
    return try await WorkerThread.run("block-look") {
      let store = try RemoteStore(
        over: UnixSocket.connect(path: path), exportName: export, isReadOnly: true,
        contexts: [NBDExtent.changed])
      defer { store.close() }
      guard store.contexts.contains(NBDExtent.changed) else { return false }
      let told = try store.status(
        of: NBDExtent.changed, at: 0, count: min(store.byteCount, 4096), extentsMax: 1)
      return told.contains { $0.flags & NBDExtent.untold == 0 }
    }
  }
}
