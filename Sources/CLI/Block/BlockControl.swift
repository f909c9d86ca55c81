import Agent
import BlockStore
import DiskStrategy
import HostIO

/// The control socket of a server of disks: who may open it, its owner and root, may move them.
final class BlockControl: Sendable {
  private static let requestMs: UInt64 = 10_000
  private static let pollMs: UInt64 = 100

  let disks: [(name: String, store: MovableStore)]
  let folder: String
  private let isOver = Guarded(false)

  /// - Parameter folder: of certificates.
  init(_ disks: [(name: String, store: MovableStore)], _ folder: String) {
    (self.disks, self.folder) = (disks, folder)
  }

  /// Serves until `close`.
  func serve(_ listener: ListeningSocket) {
    _ = WorkerThread("block-control") { [self] in
      while !isOver.read({ $0 }) {
        guard let socket = try? listener.accept(timeoutMs: Self.pollMs) else { continue }
        _ = WorkerThread("block-order") { [self] in answer(socket) }
      }
    }
  }

  /// Takes no more requests.
  func close() { isOver.update { $0 = true } }

  private func answer(_ socket: StreamSocket) {
    defer { socket.shutdown() }
    socket.setTimeout(ms: Self.requestMs)
    var reply = BlockReply()
    do {
      guard let line = try BlockLine.read(socket) else { return }
      var request: BlockRequest
      do {
        request = try JSONLine.decode(BlockRequest.self, from: line)
      } catch {
        throw ControlError(.usage, "not a request of this version: \(error)")
      }
      // As for a client that names no export.
      if request.disk == "" { request.disk = disks.first?.name }
      if request.command == .snapshot {
        reply.snapshot = try snapshot(request)
      } else if let pulls = try steerPull(request) {
        reply.pulls = pulls
      } else {
        reply.moves = try carryOut(request)
        if request.command == .status {
          reply.pulls = pulls(request)
          if request.disk != nil { reply.away = try disk(request).store.moveNote }
        }
      }
    } catch let error as MoveError {
      reply.error = ControlError(.refused, TerminalText.plain(error.description))
    } catch {
      reply.error = ControlError(wrapping: error)
    }
    guard let text = try? JSONLine.encode(reply) else { return }
    let bytes = Array((text + "\n").utf8)
    // SAFETY: the array outlives the call.
    try? unsafe socket.writeAll(bytes.span.bytes)
  }

  private func carryOut(_ request: BlockRequest) throws -> [MoveStatus] {
    guard request.block == BlockRequest.current else {
      throw ControlError(.protocolMismatch, "another version's request")
    }
    if request.command == .status, request.disk == nil {
      return disks.compactMap(\.store.moveStatus)
    }
    let disk = try disk(request)
    switch request.command {
    case .move: try move(disk.store, request)
    case .pause: try disk.store.pauseMove()
    case .resume: try disk.store.resumeMove()
    case .finish: try disk.store.finishMove(request.ending ?? .switching)
    case .cancel: try disk.store.cancelMove()
    case .lend: try lend(disk.store, request)
    case .bypass: try disk.store.noteBypass()
    case .status, .snapshot, .pull: break
    }
    return disk.store.moveStatus.map { [$0] } ?? []
  }

  private func lend(_ store: MovableStore, _ request: BlockRequest) throws {
    guard let step = request.lending else { throw ControlError(.usage, "nothing says what to do") }
    try store.lend(step)
  }

  func disk(_ request: BlockRequest) throws -> (name: String, store: MovableStore) {
    guard let disk = disks.first(where: { $0.name == request.disk }) else {
      let names = disks.map(\.name).joined(separator: ", ")
      throw ControlError(.refused, "there is no such disk here; there are: \(names)")
    }
    return disk
  }

  private func snapshot(_ request: BlockRequest) throws -> BlockSnapshotReport {
    guard request.block == BlockRequest.current, let path = request.manifest, path.hasPrefix("/")
    else { throw ControlError(.usage, "nothing says where the manifest goes") }
    let disk = try disk(request)
    let manifest = try disk.store.snapshot()
    try BlockManifest.write(manifest, to: path)
    return BlockSnapshotReport(
      disk: disk.name, manifest: path, diskBytes: manifest.byteCount,
      parts: UInt64(manifest.partCount), generation: String(manifest.generation, radix: 16))
  }

  private func move(_ store: MovableStore, _ request: BlockRequest) throws {
    guard let order = request.move else { throw ControlError(.usage, "nothing says where to") }
    guard let address = NBDAddress(order.destination) else {
      throw ControlError(
        .usage,
        "the destination is no URI of an export: nbd+unix:///NAME?socket=PATH or nbds://HOST/NAME"
      )
    }
    guard order.allowsPlainNetwork || !address.isExposed else {
      throw ControlError(
        .refused, "the disk would cross the network in plain: write nbds:, or --insecure-network")
    }
    var wish = MoveWish()
    (wish.method, wish.ending) = (order.method, order.ending)
    (wish.bytesPerSecond, wish.staysHere) = (order.bytesPerSecond, order.staysHere == true)
    wish.pauseLimitMs = min(order.pauseLimitMs, 10_000)
    if let surrogate = order.surrogate {
      if let export = NBDAddress(surrogate.place), export.isExposed, !order.allowsPlainNetwork {
        throw ControlError(
          .refused,
          "the surrogate's data would cross the network in plain: write nbds:, or --insecure-network"
        )
      }
      var wanted = SurrogateWish(try BlockSurrogate.find(surrogate.place, folder))
      (wanted.byteCountMax, wanted.popularity) = (surrogate.byteCountMax, surrogate.popularity)
      wish.surrogate = wanted
    }
    if let base = order.base, let name = base.bitmap {
      guard base.manifest == nil, order.manifest == nil else {
        throw ControlError(.usage, "a copy has its manifest, or a bitmap, and not both")
      }
      var wanted = BitmapWish(name: name, seed: .random(in: 0 ... .max))
      (wanted.sampleCount, wanted.verifiesAll) = (base.sampleCount, base.verifiesAll)
      wish.bitmap = wanted
    } else if let base = order.base {
      guard let path = base.manifest else {
        throw ControlError(.usage, "nothing says what the copy has")
      }
      var wanted = BaseWish(
        manifest: try BlockManifest.read(path), seed: .random(in: 0 ... .max))
      (wanted.sampleCount, wanted.verifiesAll) = (base.sampleCount, base.verifiesAll)
      wanted.own = try order.manifest.map { try BlockManifest.read($0) }
      wish.base = wanted
    } else if let path = order.manifest {
      wish.snapshot = SnapshotWish(
        manifest: try BlockManifest.read(path), backups: try backups(order))
    }
    do {
      try store.move(to: address.destination(folder), wish)
    } catch let error as MoveError {
      throw error
    } catch {
      throw ControlError(
        .refused,
        "the destination or the surrogate can't be used: \(TerminalText.plain("\(error)"))")
    }
  }
}

extension BlockControl {
  fileprivate func backups(_ order: BlockMoveOrder) throws -> [MoveDestination] {
    try (order.backups ?? []).map { uri in
      guard let address = NBDAddress(uri) else {
        throw ControlError(.usage, "\(TerminalText.plain(uri)) is no URI of an export")
      }
      guard order.allowsPlainNetwork || !address.isExposed else {
        throw ControlError(
          .refused, "a backup would cross the network in plain: write nbds:, or --insecure-network")
      }
      return address.destination(folder)
    }
  }
}
