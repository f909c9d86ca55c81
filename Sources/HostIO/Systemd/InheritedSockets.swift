import Glibc

/// Listening sockets that systemd opened and handed over (sd_listen_fds(3)).
public struct InheritedSockets: Sendable, Equatable {
  /// Where the handed-over descriptors begin.
  static let firstDescriptor: Int32 = 3
  /// More are not looked at.
  static let countMax: Int32 = 16

  /// For `godwit`'s commands: a unix socket.
  public var control: Int32?
  /// For other agents: a TCP socket.
  public var peers: Int32?
  /// Those of neither kind.
  public var unknown: [Int32] = []

  public init() {}

  /// What `$LISTEN_FDS` names, when it is meant for this process; none is inherited by what the agent
  /// starts.
  public static func fromEnvironment() -> InheritedSockets {
    let count = count(
      pid: EnvironmentVariable.value("LISTEN_PID"), fds: EnvironmentVariable.value("LISTEN_FDS"),
      own: getpid())
    var sockets = InheritedSockets()
    for raw in firstDescriptor..<(firstDescriptor + count) {
      _ = fcntl(raw, F_SETFD, FD_CLOEXEC)
      switch listeningFamily(raw) {
      case AF_UNIX where sockets.control == nil: sockets.control = raw
      case AF_INET where sockets.peers == nil, AF_INET6 where sockets.peers == nil:
        sockets.peers = raw
      default: sockets.unknown.append(raw)
      }
    }
    return sockets
  }

  /// How many descriptors are meant for process `own`.
  static func count(pid: String?, fds: String?, own: Int32) -> Int32 {
    guard let pid = pid.flatMap(Int32.init), pid == own, let count = fds.flatMap(Int32.init) else {
      return 0
    }
    return min(max(count, 0), countMax)
  }

  /// The address family of a listening stream socket; nil when it is none.
  static func listeningFamily(_ raw: Int32) -> Int32? {
    guard option(raw, SO_ACCEPTCONN) == 1, option(raw, SO_TYPE) == Int32(SOCK_STREAM.rawValue)
    else { return nil }
    return option(raw, SO_DOMAIN)
  }

  private static func option(_ raw: Int32, _ name: Int32) -> Int32? {
    var value: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`.
    return unsafe getsockopt(raw, SOL_SOCKET, name, &value, &length) == 0 ? value : nil
  }
}
