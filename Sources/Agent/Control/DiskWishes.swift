/// Which of a guest's disks move with it, and how.
public struct DiskWishes: Codable, Sendable, Equatable {
  public enum Method: String, Codable, Sendable, CaseIterable {
    /// As `precopy` until little is left, then as `mirror`, where QEMU can change over (8.2 and later).
    case auto
    /// Blocks that the guest writes meanwhile are copied again; what is left waits until the guest has stopped.
    case precopy
    /// The guest's writes go to both sides from the start: that always ends, and slows a writing guest down.
    case mirror
  }

  /// The guest's disks by device id, node name or path; nil: all of them.
  public var names: [String]?
  /// Disks that both hosts share, whatever can be seen of it, named likewise: nothing is copied.
  public var shared: [String] = []
  /// Where disks shall lie at the destination, by name; others keep their paths.
  public var paths: [String: String] = [:]
  public var method = Method.auto

  public init() {}
}
