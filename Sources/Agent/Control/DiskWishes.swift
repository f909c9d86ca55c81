/// Which of a guest's disks move with it, and how.
public struct DiskWishes: Codable, Sendable, Equatable {
  /// How QEMU copies a disk, or, where one is behind a server (`godwit block attach`), that server.
  public enum Method: String, Codable, Sendable, CaseIterable {
    /// As `precopy` until little is left, then as `mirror`, where QEMU can change over (8.2 and later).
    case auto
    /// Blocks that the guest writes meanwhile are copied again; what is left waits until the guest has stopped.
    case precopy
    /// The guest's writes go to both sides from the start: that always ends, and slows a writing guest down.
    case mirror
    /// As `godwit block move` does it, and so for disks behind its server alone.
    case iofollow, waio, snapmig
    /// The same; what lies at the destination already is brought up to date, and not made anew.
    case incremental

    /// QEMU has nothing like it.
    var needsServer: Bool {
      switch self {
      case .auto, .precopy, .mirror: false
      case .iofollow, .waio, .snapmig, .incremental: true
      }
    }

    /// What it is given besides its name is of one disk.
    var movesOneDisk: Bool { self == .waio || self == .snapmig || self == .incremental }
  }

  /// The guest's disks by device id, node name or path; nil: all of them.
  public var names: [String]?
  /// Disks that both hosts share, whatever can be seen of it, named likewise: nothing is copied.
  public var shared: [String] = []
  /// Where disks shall lie at the destination, by name; others keep their paths.
  public var paths: [String: String] = [:]
  public var method = Method.auto
  /// For `waio`: an absolute path on the source's host, or the URI of an export.
  public var surrogate: String?
  /// For `snapmig`, and perhaps for `incremental`: the path of the manifest of the disk's last snapshot, on the
  /// source's host.
  public var manifest: String?
  /// For `snapmig`: URIs of exports, of `backupsMax` at most.
  public var backups: [String]?
  /// For `incremental`: the path of the manifest of the destination's copy, on the source's host.
  public var baseManifest: String?
  /// Pages that are the same as a block of a disk that moves go as they are all the same; nil: as references to its copy.
  public var sendsCachedBlocks: Bool?

  public static let backupsMax = 16

  public init() {}

  /// What is wrong with the values, in one line; nil when nothing is.
  public var problem: String? {
    if (method == .waio) != (surrogate != nil) {
      return "--disk-method waio and --surrogate go together"
    }
    let hasBackups = backups?.isEmpty == false
    if (method == .snapmig) != hasBackups || (method == .snapmig && manifest == nil)
      || (manifest != nil && method != .snapmig && method != .incremental)
    {
      return "--disk-method snapmig, --manifest and --backup go together"
    }
    if (method == .incremental) != (baseManifest != nil) {
      return "--disk-method incremental and --base-manifest go together"
    }
    if let path = [manifest, baseManifest].compactMap(\.self).first(where: { !$0.hasPrefix("/") }) {
      return "\(path) is no absolute path of a manifest"
    }
    if let backups, backups.count > Self.backupsMax {
      return "--backup is given \(Self.backupsMax) times at most"
    }
    return nil
  }
}
