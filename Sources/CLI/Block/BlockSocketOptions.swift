import Agent
import ArgumentParser
import BlockStore
import HostIO
import PKI

/// Where clients connect.
struct BlockSocketOptions: ParsableArguments {
  /// The port that is registered for NBD.
  static let defaultPort: UInt16 = 10809

  @Option(help: ArgumentHelp("Unix socket to make for clients.", valueName: "path"))
  var socket: String?
  @Option(
    help: ArgumentHelp(
      "Address for clients, over TLS; port 10809 when none is given.", valueName: "host:port"))
  var listen: String?
  @OptionGroup var folder: PKIFolderOptions
  @Flag(
    help: "Plain TCP in place of TLS, on loopback only: no encryption, and clients are not known.")
  var insecure = false
  @Flag(help: "With --insecure: other addresses, too. For networks that only your hosts reach.")
  var insecureNetwork = false

  func validate() throws {
    guard !insecureNetwork || insecure else {
      throw ValidationError("--insecure-network goes with --insecure")
    }
    guard let listen else { return }
    guard let (host, _) = TCPSocket.split(listen, defaultPort: Self.defaultPort) else {
      throw ValidationError("\(TerminalText.plain(listen)) is no address: write host:port")
    }
    guard !insecure || insecureNetwork || TCPSocket.isLoopback(host) else {
      throw ValidationError(
        "--insecure is for loopback: anybody who reaches \(TerminalText.plain(listen)) could write "
          + "(--insecure-network)")
    }
  }

  /// Opens or takes over the sockets.
  func open() throws -> [(ListeningSocket, DiskServer.Secure?)] {
    var sockets: [(ListeningSocket, DiskServer.Secure?)] = []
    let inherited = InheritedSockets.fromEnvironment()
    if let raw = inherited.control { sockets.append((ListeningSocket(inheriting: raw), nil)) }
    if let raw = inherited.peers {
      sockets.append((ListeningSocket(inheriting: raw), try secure()))
    }
    if let socket { sockets.append((try UnixSocket.listen(path: socket), nil)) }
    if let listen, let (host, port) = TCPSocket.split(listen, defaultPort: Self.defaultPort) {
      sockets.append((try TCPSocket.listen(host: host, port: port), try secure()))
    }
    guard !sockets.isEmpty else {
      throw ControlError(.usage, "nowhere to serve: give --socket or --listen")
    }
    return sockets
  }

  private func secure() throws -> DiskServer.Secure? {
    if insecure { return nil }
    let path = folder.path
    // What is wrong with the files is told now, not to the first client.
    _ = try HostPKI(try PKILayout.find(in: path)).credentials(.server)
    return { socket in try BlockSecurity.admit(socket, path) }
  }
}

/// TLS with a client or a server of a disk, whose certificate has to be good.
enum BlockSecurity {
  private static let handshakeMs: UInt64 = 10_000

  /// Certificates and the deny list are read for each connection, so that a change counts from the
  /// next one on.
  static func admit(_ socket: StreamSocket, _ folder: String) throws -> any ByteConnection {
    try secured(socket, folder, .server, .client)
  }

  /// The other side of it: `host` is whom we wanted.
  static func connect(
    _ socket: StreamSocket, to host: String, _ folder: String
  ) throws -> any ByteConnection {
    try secured(socket, folder, .client, .server(host: host))
  }

  private static func secured(
    _ socket: StreamSocket, _ folder: String, _ role: TLSCredentials.Role,
    _ purpose: PeerTrust.Purpose
  ) throws -> any ByteConnection {
    let pki = try HostPKI(try PKILayout.find(in: folder))
    let denied = folder + "/denied"
    let trust = PeerTrust(
      authorities: pki.authorities,
      denyList: SmallFile.exists(denied) ? try DenyList.load(denied) : DenyList())
    let connection = try TLSConnection(
      over: socket, try pki.credentials(role), timeoutMs: handshakeMs)
    let judgement = Guarded<Result<HostCertificate, TrustRefusal>?>(nil)
    let shown = connection.peerCertificates
    // The judgement is async; the connection has a thread of its own to wait on.
    Task {
      let result: Result<HostCertificate, TrustRefusal>
      do throws(TrustRefusal) {
        result = .success(try await trust.judge(shown, for: purpose))
      } catch {
        result = .failure(error)
      }
      judgement.update { $0 = result }
    }
    while true {
      guard let result = judgement.wait(until: { $0 }) else { continue }
      if case .failure(let refusal) = result {
        connection.finish()
        throw refusal
      }
      return connection
    }
  }
}
