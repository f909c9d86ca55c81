import Agent
import BlockStore

/// Orders about disks that are pulled.
extension BlockControl {
  /// Carries out what is about a pull; nil: the request is about something else.
  func steerPull(_ request: BlockRequest) throws -> [DiskPullStatus]? {
    guard request.block == BlockRequest.current else { return nil }
    let store: MovableStore
    switch request.command {
    case .move, .finish, .status, .snapshot, .lend, .bypass: return nil
    case .pull:
      store = try disk(request).store
      try pull(store, request)
    case .pause, .resume, .cancel:
      store = try disk(request).store
      guard store.pullStatus?.phase.isOver == false else { return nil }
      switch request.command {
      case .pause: try store.pausePull()
      case .resume: try store.resumePull()
      default: try store.cancelPull()
      }
    }
    return store.pullStatus.map { [$0] } ?? []
  }

  /// Of one disk, or of all.
  func pulls(_ request: BlockRequest) -> [DiskPullStatus] {
    disks.filter { request.disk == nil || $0.name == request.disk }.compactMap(\.store.pullStatus)
  }

  private func pull(_ store: MovableStore, _ request: BlockRequest) throws {
    guard let order = request.pull else {
      throw ControlError(.usage, "nothing says where from")
    }
    guard let address = NBDAddress(order.source) else {
      throw ControlError(
        .usage,
        "the source is no URI of an export: nbd+unix:///NAME?socket=PATH or nbds://HOST/NAME")
    }
    guard order.allowsPlainNetwork || !address.isExposed else {
      throw ControlError(
        .refused, "the disk would cross the network in plain: write nbds:, or --insecure-network")
    }
    var wish = DiskPullWish()
    (wish.bytesPerSecond, wish.overwrites) = (order.bytesPerSecond, order.overwrites)
    do {
      try store.pull(from: address.destination(folder), wish)
    } catch let error as MoveError {
      throw error
    } catch {
      throw ControlError(
        .refused, "the source can't be used: \(TerminalText.plain("\(error)"))")
    }
  }
}
