import Synchronization

/// What whoever changes a guest's QEMU over tells the server of its qcow2 image, in this order and back.
public enum LendingStep: String, Codable, Sendable {
  /// QEMU has frozen the image: read it.
  case look
  /// QEMU has closed the image: write to it.
  case take
  /// QEMU is about to open the image: write to it no more.
  case release
  /// QEMU has the image: close it.
  case rest
}

extension MovableStore {
  private var lent: LentImage? { (source.original as? PulledStore)?.image as? LentImage }

  /// Throws when a guest's QEMU has the image, so that what is read of it here may be old.
  func checkIsOwned() throws(MoveError) {
    guard let lent else { return }
    do {
      try lent.own()
    } catch {
      throw MoveError("the disk \(name) isn't this server's alone (godwit block attach): \(error)")
    }
  }

  /// Throws when the disk is no qcow2 image that is served as in use, or moves; then everything is as it was, but for the
  /// last snapshot: whoever has the image at any other time than this server writes what nobody notes.
  public func lend(_ step: LendingStep) throws {
    try orders.withLock { _ in
      guard let lent else {
        throw MoveError(
          "the disk \(name) is no qcow2 image that a guest has: godwit block serve --format qcow2 --in-use"
        )
      }
      clearEndedMove()
      guard step == .take || (move == nil && !source.isInUse) else {
        throw MoveError("the disk \(name) moves, or was moved away")
      }
      do {
        // First: who is killed in between must not leave notes that lie.
        if step != .take || !lent.isOwned { try forgetSnapshot() }
        switch step {
        case .look: try lent.look()
        case .take: try lent.take()
        case .release: try lent.release()
        case .rest: try lent.rest()
        }
      } catch {
        log("\(name): \(step.rawValue): \(error)")
        throw error
      }
    }
  }
}
