import Base
import HostIO
import PKI
import Wire

/// Turns a connected socket into the connection that two agents talk over: TLS 1.3 with both sides'
/// certificates judged, or plain TCP where the operator wants that.
///
/// Certificates, keys and the deny list are read for each connection, so that a renewed certificate
/// or a new entry counts from the next one on.
struct PeerSecurity: Sendable {
  private let settings: SecuritySettings

  init(_ configuration: AgentConfiguration) { settings = configuration.tls }

  /// The side that connected, to `host`.
  func client(
    _ socket: StreamSocket, host: String, timeoutMs: UInt64
  ) throws -> any ByteConnection {
    guard settings.insecure else {
      return try secured(socket, .client, .server(host: host), timeoutMs)
    }
    try checkLoopback(socket)
    return socket
  }

  /// The side that was connected to.
  func server(_ socket: StreamSocket, timeoutMs: UInt64) throws -> any ByteConnection {
    socket.setTimeout(ms: timeoutMs)
    if settings.insecure { try checkLoopback(socket) }
    // A TLS record that starts a handshake; frames of agents start with "G".
    let isTLS = try socket.peekByte() == 0x16
    guard isTLS != settings.insecure else {
      let problem = isTLS ? SecurityError.wantsPlain : SecurityError.wantsTLS
      answerInPlain(socket, problem.description)
      throw problem
    }
    guard isTLS else { return socket }
    return try secured(socket, .server, .client, timeoutMs)
  }

  /// For a peer of the other kind: a plain frame, which a plain agent shows as it is and in which a
  /// TLS client sees that this is no TLS.
  private func answerInPlain(_ socket: StreamSocket, _ text: String) {
    // What was sent is taken first: unread bytes would turn the close into a reset, and the
    // answer would be lost.
    var bytes = [UInt8](repeating: 0, count: 4096)
    _ = unsafe try? bytes.withUnsafeMutableBytes { unsafe try socket.read(into: $0) }
    PeerConnection.welcome(socket, refusal: text)
  }

  private func checkLoopback(_ socket: StreamSocket) throws {
    guard settings.insecureNetwork || socket.isLoopback else {
      socket.shutdown()
      throw SecurityError(
        "\(socket.peer) is not on this machine, and this agent speaks plain TCP (--insecure)",
        remedy: "set certificates up (godwit pki), or add --insecure-network to both agents")
    }
  }

  private func secured(
    _ socket: StreamSocket, _ role: TLSCredentials.Role, _ purpose: PeerTrust.Purpose,
    _ timeoutMs: UInt64
  ) throws -> TLSConnection {
    let pki = try HostPKI(try settings.layout())
    let trust = PeerTrust(authorities: pki.authorities, denyList: try settings.denyList())
    let connection = try TLSConnection(
      over: socket, try pki.credentials(role), timeoutMs: timeoutMs)
    connection.setTimeout(ms: timeoutMs)
    do throws(TrustRefusal) {
      _ = try Self.judge(connection.peerCertificates, trust, purpose)
    } catch {
      try? Self.say(Admission(refusal: error.description), to: connection)
      connection.finish()
      throw SecurityError(
        "refused the certificate of \(socket.peer): \(error)", remedy: SecurityError.seeFiles)
    }
    // A peer that refuses may be gone before it hears the yes; what it said is there all the same.
    try? Self.say(Admission(), to: connection)
    let bounded = BoundedConnection(connection, by: Deadline("greeting", ms: timeoutMs))
    if let refusal = try Self.hear(bounded).refusal {
      connection.finish()
      throw SecurityError(
        "\(socket.peer) refused this host's certificate: \(refusal)", remedy: SecurityError.seeFiles
      )
    }
    connection.setTimeout(ms: 0)
    return connection
  }

  /// The judgement is async; whoever opens a connection has a thread of its own to wait on.
  private static func judge(
    _ shown: [[UInt8]], _ trust: PeerTrust, _ purpose: PeerTrust.Purpose
  ) throws(TrustRefusal) -> HostCertificate {
    let judgement = Guarded<Result<HostCertificate, TrustRefusal>?>(nil)
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
      if let result = judgement.wait(until: { $0 }) { return try result.get() }
    }
  }

  private static func say(_ admission: Admission, to connection: TLSConnection) throws {
    var bytes: [UInt8] = []
    admission.encode(into: &bytes)
    try unsafe connection.writeAll(bytes.span.bytes)
  }

  private static func hear(_ connection: any ByteConnection) throws -> Admission {
    func bytes(_ count: Int) throws -> [UInt8] {
      var bytes = [UInt8](repeating: 0, count: count)
      // SAFETY: the buffer is the array's own memory, for the call.
      let isWhole = try unsafe bytes.withUnsafeMutableBytes {
        try unsafe connection.readFully(into: $0)
      }
      guard isWhole else {
        throw SecurityError(
          "\(connection.peer) closed the connection after the TLS handshake",
          remedy: "see its agent's log")
      }
      return bytes
    }
    let header = try bytes(Admission.headerByteCount)
    var cursor = unsafe ByteCursor(header.span.bytes)
    let length = try Admission.reasonLength(decoding: &cursor)
    return Admission(reason: length == 0 ? [] : try bytes(length))
  }

  /// The names that the peer's certificate is for; empty over plain TCP.
  static func peerNames(of connection: any ByteConnection) -> [String] {
    guard let shown = (connection as? TLSConnection)?.peerCertificates.first,
      let certificate = try? HostCertificate(der: shown)
    else { return [] }
    return certificate.allNames
  }
}
