import Glibc
import HostIO

/// The file that takes a guest's writes while its qcow2 image changes hands. As long as it holds something, the disk is that
/// on top of the image.
public struct ImageOverlay: Sendable {
  /// Behind the path of the image, which every one of its links leads to.
  public static let suffix = ".godwit-overlay"

  public let path: String

  /// Of the file that `image` names, links followed: all names of an image have one overlay. Where
  /// they can't be followed, beside `image` itself.
  public init(of image: String) { path = (ImageFile.realPath(image) ?? image) + Self.suffix }

  /// A path that is known already, with the suffix.
  public init(at path: String) { self.path = path }

  /// Whether it may be newer than the image.
  public var holdsSomething: Bool {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else { return false }
    return status.st_mode & S_IFMT != S_IFREG || status.st_size > 0
  }

  /// How long a QEMU may take to open one that it has made, and how often that is looked at, in milliseconds.
  private static let openingMs: UInt64 = 1000
  private static let retryMs: UInt64 = 20

  /// Whether it holds something and its guest is dead: one that lives has it open for writing. Blocks for a second at most.
  public func isOrphaned() -> Bool {
    let deadlineMs = MonotonicClock.nowMs + Self.openingMs
    while holdsSomething, !ImageLock.isWrittenTo(path) {
      guard MonotonicClock.nowMs < deadlineMs else { return true }
      MonotonicClock.sleep(us: Self.retryMs * 1000)
    }
    return false
  }
}
