import Base
import HostIO
import Synchronization
import Wire

/// The limit that all outgoing migrations of an agent share (`bandwidth` in its configuration).
final class OutgoingLink: Sendable {
  private let link: Mutex<SharedLink>

  init(rate: ByteRate?) { link = Mutex(SharedLink(rate: rate, nowUs: MonotonicClock.nowUs)) }

  /// From now on; running migrations follow.
  func setRate(_ rate: ByteRate?) {
    link.withLock { $0.setRate(rate, nowUs: MonotonicClock.nowUs) }
  }

  func join() -> LinkShare {
    LinkShare(link: self, member: link.withLock { $0.join(nowUs: MonotonicClock.nowUs) })
  }

  fileprivate func take(_ bytes: UInt64, member: UInt64) -> UInt64 {
    link.withLock { $0.take(bytes, member: member, nowUs: MonotonicClock.nowUs) }
  }

  fileprivate func leave(_ member: UInt64) {
    link.withLock { $0.leave(member, nowUs: MonotonicClock.nowUs) }
  }
}

/// One migration's part of the link, until it leaves.
final class LinkShare: Sendable {
  private let link: OutgoingLink
  private let member: UInt64

  fileprivate init(link: OutgoingLink, member: UInt64) { (self.link, self.member) = (link, member) }

  /// Leaves its part to the others. Whatever is still sent is not counted.
  func leave() { link.leave(member) }

  /// How long to wait before `bytes` are sent, in microseconds.
  func take(_ bytes: UInt64) -> UInt64 { link.take(bytes, member: member) }
}
