import BlockStore
import HostIO

/// Where an export is, as NBD's document writes it (`doc/uri.md`): `nbd+unix:///EXPORT?socket=PATH` or
/// `nbd://HOST[:PORT]/EXPORT`, `nbds:` for TLS.
struct NBDAddress: Sendable, Equatable {
  enum Place: Sendable, Equatable {
    case unix(String)
    case tcp(host: String, port: UInt16, isSecure: Bool)
  }
  let place: Place
  let exportName: String
  let uri: String

  /// Time to connect, in milliseconds.
  private static let connectMs: UInt64 = 5000

  /// nil: it is neither.
  init?(_ uri: String) {
    self.uri = uri
    guard !uri.contains(where: \.isNewline), uri.utf8.count <= 2048 else { return nil }
    if uri.hasPrefix("nbd+unix:///") {
      let parts = uri.dropFirst("nbd+unix:///".count).split(
        separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2, let name = Self.decoded(parts[0]) else { return nil }
      let sockets = parts[1].split(separator: "&").filter { $0.hasPrefix("socket=") }
      guard sockets.count == 1, let path = Self.decoded(sockets[0].dropFirst("socket=".count)),
        path.hasPrefix("/")
      else { return nil }
      (place, exportName) = (.unix(path), name)
      return
    }
    let scheme = ["nbd://", "nbds://"].first { uri.hasPrefix($0) }
    guard let scheme else { return nil }
    let parts = uri.dropFirst(scheme.count).split(
      separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard !parts[0].contains("@"), !parts[0].contains("?"),
      let (host, port) = TCPSocket.split(
        String(parts[0]), defaultPort: BlockSocketOptions.defaultPort),
      let name = Self.decoded(parts.count == 2 ? parts[1] : "")
    else { return nil }
    place = .tcp(host: host, port: port, isSecure: scheme == "nbds://")
    exportName = name
  }

  /// Plain TCP to anywhere but this host shows a guest's data to the network.
  var isExposed: Bool {
    if case .tcp(let host, _, false) = place { return !TCPSocket.isLoopback(host) }
    return false
  }

  /// - Parameter folder: of certificates.
  func destination(_ folder: String) -> MoveDestination {
    let place = place
    var secure: RemoteStore.Secure?
    if case .tcp(let host, _, true) = place {
      secure = { socket in try BlockSecurity.connect(socket, to: host, folder) }
    }
    return MoveDestination(uri: uri, exportName: exportName, secure: secure) {
      switch place {
      case .unix(let path): try UnixSocket.connect(path: path)
      case .tcp(let host, let port, _):
        try TCPSocket.connect(host: host, port: port, timeoutMs: Self.connectMs)
      }
    }
  }

  /// `%41` as `A`; nil when that isn't UTF-8, or no number follows.
  private static func decoded(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      let digits = String(decoding: rest.prefix(2), as: UTF8.self)
      guard digits.utf8.count == 2, let value = UInt8(digits, radix: 16), value != 0 else {
        return nil
      }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}
