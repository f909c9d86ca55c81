import Base
import FoundationEssentials
import Glibc
import NIOCore
import NIOPosix

/// The unix socket's place in the file system: default path, claim, permissions, removal.
public enum ControlSocket {
  /// `sun_path` holds 108 bytes with its end.
  static let pathBytesMax = 107

  /// `/run/godwit` for root, else `$XDG_RUNTIME_DIR/godwit`, else a folder of the user's in `/tmp`.
  public static var defaultFolder: String {
    guard geteuid() != 0 else { return "/run/godwit" }
    if let base = ProcessInfo.processInfo.environment["XDG_RUNTIME_DIR"] { return base + "/godwit" }
    return "/tmp/godwit-\(geteuid())"
  }

  /// `agent.sock` in `defaultFolder`.
  public static var defaultPath: String { defaultFolder + "/agent.sock" }

  /// Makes room for a socket at `path`: creates its folder (mode 0700) and removes what a dead agent
  /// left. Refuses when an agent answers there, or when something other than a socket is there.
  static func claim(_ path: String) async throws {
    guard !path.isEmpty, path.utf8.count <= pathBytesMax else {
      throw ControlError(
        .usage,
        "a socket's path has 1 to \(pathBytesMax) bytes, this one \(path.utf8.count): \(path)")
    }
    try createFolder(of: path)
    guard let kind = fileKind(path) else { return }
    guard kind == S_IFSOCK else {
      throw ControlError(.refused, "\(path) exists and is no socket; not touched")
    }
    if await answers(path) {
      throw ControlError(.refused, "another agent listens at \(path); stop it or use another path")
    }
    remove(path)
  }

  private static func createFolder(of path: String) throws {
    guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return }
    let folder = String(path[..<slash])
    do {
      try FileManager.default.createDirectory(
        atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    } catch {
      throw ControlError(.failed, "cannot create \(folder): \(error)")
    }
    var facts = stat()
    // SAFETY: both pointers live for the call only; `facts` is read after success alone.
    guard unsafe stat(folder, &facts) == 0 else { return }
    let isOurs = facts.st_uid == geteuid() || facts.st_uid == 0
    guard isOurs, facts.st_mode & (S_IWGRP | S_IWOTH) == 0 || facts.st_mode & S_ISVTX != 0 else {
      throw ControlError(
        .refused, "others may replace a socket in \(folder); use a folder that only you can write")
    }
  }

  /// The file's type bits; nil when there is none.
  private static func fileKind(_ path: String) -> mode_t? {
    var facts = stat()
    // SAFETY: both pointers live for the call only; `facts` is read after success alone.
    guard unsafe lstat(path, &facts) == 0 else { return nil }
    return facts.st_mode & S_IFMT
  }

  private static func answers(_ path: String) async -> Bool {
    let probe = try? await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
      .connectTimeout(.seconds(2)).connect(unixDomainSocketPath: path).get()
    guard let probe else { return false }
    try? await probe.close()
    return true
  }

  /// Only the owner may connect; the peer's credentials are checked as well.
  static func restrict(_ path: String) throws {
    // SAFETY: the path lives for the call.
    guard unsafe chmod(path, 0o600) == 0 else {
      throw ControlError(.failed, "cannot set the permissions of \(path): errno \(errno)")
    }
  }

  static func remove(_ path: String) {
    // SAFETY: the path lives for the call.
    _ = unsafe unlink(path)
  }
}

/// Who is at the other end of a unix socket (`SO_PEERCRED`, socket(7)); laid out as `struct ucred`.
struct PeerCredentials: Sendable {
  var pid: Int32 = 0
  var uid: UInt32 = .max
  var gid: UInt32 = .max

  /// Root and the agent's own user may give orders.
  var mayControl: Bool { uid == 0 || uid == geteuid() }

  static func of(_ channel: any Channel) async -> PeerCredentials? {
    guard let provider = channel as? any SocketOptionProvider else { return nil }
    // The kernel fills exactly this layout for SO_PEERCRED; every bit pattern is valid.
    return try? await provider.unsafeGetSocketOption(
      level: .socket, name: .init(rawValue: SO_PEERCRED)
    ).get()
  }
}
