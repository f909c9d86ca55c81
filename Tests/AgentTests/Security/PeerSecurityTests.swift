import Base
import Foundation
import HostIO
import Logging
import NIOSSL
import Testing
import Wire

@testable import Agent
@testable import HostIO
@testable import PKI

/// Two agents' ends of a connection: who is let in, and what both sides are told otherwise.
@Suite(.timeLimit(.minutes(4))) struct PeerSecurityTests {
  private let hosts: TestHosts

  init() throws {
    hosts = try TestHosts()
    for host in ["host-a", "host-b"] { try hosts.add(host) }
  }

  /// Both sides have the reason, and it names each of `words`.
  private func expectRefused(
    _ said: (client: String?, server: String?), _ words: String...,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    for (side, text) in [("client", said.client), ("server", said.server)] {
      for word in words {
        #expect(
          text?.contains(word) == true, "\(side): \(text ?? "let in")",
          sourceLocation: sourceLocation)
      }
    }
  }

  @Test func goodHostsTalk() async throws {
    let said = try await TestHosts.meet(hosts.security("host-a"), hosts.security("host-b"))
    #expect(said.client == nil && said.server == nil)
  }

  @Test func bytesPassAndTheNamesAreKnown() async throws {
    let (near, far) = try TestHosts.sockets()
    let (own, other) = (hosts.security("host-a"), hosts.security("host-b"))
    async let server = Blocking.run { try other.server(far, timeoutMs: 60_000) }
    let client = try await Blocking.run {
      try own.client(near, host: "127.0.0.1", timeoutMs: 60_000)
    }
    let accepted = try await server
    #expect(PeerSecurity.peerNames(of: accepted) == ["host-a", "127.0.0.1"])
    #expect(PeerSecurity.peerNames(of: client) == ["host-b", "127.0.0.1"])
    let heard = try await Blocking.run { () -> Hello in
      var bytes: [UInt8] = []
      AgentUnderAttack.hello(seed: 4).encode(into: &bytes)
      try FrameSocket(client).send(.hello, bytes)
      return try PeerConnection.greet(accepted, timeoutMs: 30_000)
    }
    #expect(heard == AgentUnderAttack.hello(seed: 4))
    client.shutdown()
    accepted.shutdown()
  }

  @Test func expired() async throws {
    try hosts.add("host-a", from: -3 * 86_400, days: 1)
    let good = hosts.security("host-b")
    expectRefused(try await TestHosts.meet(hosts.security("host-a"), good), "host-a", "expired on")
    expectRefused(try await TestHosts.meet(good, hosts.security("host-a")), "host-a", "expired on")
  }

  @Test func notYetValid() async throws {
    try hosts.add("host-a", from: 86_400)
    let said = try await TestHosts.meet(hosts.security("host-a"), hosts.security("host-b"))
    expectRefused(said, "host-a", "valid only from", "clocks")
  }

  @Test func wrongName() async throws {
    let (near, far) = (hosts.security("host-a"), hosts.security("host-b"))
    for name in ["host-c", "10.9.9.9"] {
      let said = try await TestHosts.meet(near, far, as: name)
      expectRefused(said, "host-b, 127.0.0.1", "not for \(name)")
    }
    let said = try await TestHosts.meet(near, far, as: "Host-B")
    #expect(said.client == nil && said.server == nil)
  }

  @Test func otherAuthority() async throws {
    try hosts.add("spy", by: "stranger", trusting: "authority")
    let (spy, good) = (hosts.security("spy"), hosts.security("host-b"))
    expectRefused(try await TestHosts.meet(spy, good), "another authority", "CN=stranger")
    expectRefused(try await TestHosts.meet(good, spy), "another authority", "CN=stranger")
    // Neither trusts the other.
    try hosts.add("alien", by: "stranger", trusting: "stranger")
    expectRefused(try await TestHosts.meet(hosts.security("alien"), good), "another authority")
  }

  /// The list counts from the next connection on.
  @Test func revoked() async throws {
    let bad = try hosts.add("host-a")
    let (near, far) = (hosts.security("host-a"), hosts.security("host-b"))
    var said = try await TestHosts.meet(near, far)
    #expect(said.client == nil && said.server == nil)
    let list = hosts.folder("host-b") + "/denied"
    try SmallFile.write(Array("\(bad.serial)\n".utf8), to: list)
    expectRefused(try await TestHosts.meet(near, far), "revoked", bad.serial)
    try SmallFile.write(Array("sha256 \(bad.fingerprint)\n".utf8), to: list)
    expectRefused(try await TestHosts.meet(far, near, as: "127.0.0.1"), "revoked", bad.serial)
    // A list that can't be understood lets nobody in.
    try SmallFile.write(Array("everybody\n".utf8), to: list)
    said = try await TestHosts.meet(near, far)
    #expect(said.server?.contains("line 1") == true && said.client != nil)
  }

  @Test func noClientCertificate() async throws {
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.certificateVerification = .noHostnameVerification
    configuration.trustRoots = .certificates([])
    let anonymous = TLSCredentials(
      role: .client, context: try NIOSSLContext(configuration: configuration))
    let (near, far) = try TestHosts.sockets()
    let security = hosts.security("host-b")
    async let server = Blocking.run { () -> String in
      do { _ = try security.server(far, timeoutMs: 60_000) } catch { return "\(error)" }
      return ""
    }
    let told = try await Blocking.run { () -> String in
      let connection = try TLSConnection(over: near, anonymous, timeoutMs: 60_000)
      var bytes = [UInt8](repeating: 0, count: 2000)
      var count = 0
      while true {
        let got = try bytes.withUnsafeMutableBytes {
          try connection.read(into: UnsafeMutableRawBufferPointer(rebasing: $0[count...]))
        }
        if got == 0 { return String(decoding: bytes.dropFirst(6).prefix(count), as: UTF8.self) }
        count += got
      }
    }
    #expect(told.contains("no certificate was shown"))
    #expect(try await server.contains("no certificate was shown"))
  }

  @Test func oldTLS() async throws {
    let pki = try HostPKI(.godwit(hosts.folder("host-a")))
    let pair = pki.layout.client
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.maximumTLSVersion = .tlsv12
    configuration.certificateVerification = .noHostnameVerification
    configuration.trustRoots = .certificates([])
    configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(pair.certificate).map {
      .certificate($0)
    }
    configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: pair.key, format: .pem))
    let old = TLSCredentials(
      role: .client, context: try NIOSSLContext(configuration: configuration))
    let (near, far) = try TestHosts.sockets()
    let security = hosts.security("host-b")
    async let server = Blocking.run { () -> String in
      do { _ = try security.server(far, timeoutMs: 60_000) } catch { return "\(error)" }
      return ""
    }
    await #expect(throws: TLSError.self) {
      _ = try await Blocking.run { try TLSConnection(over: near, old, timeoutMs: 60_000) }
    }
    #expect(try await server.contains("TLS 1.3"))
  }

  @Test func aKeyThatOthersCanReadIsNotUsed() async throws {
    let key = hosts.folder("host-a") + "/host-key.pem"
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: key)
    let said = try await TestHosts.meet(hosts.security("host-a"), hosts.security("host-b"))
    #expect(said.client?.contains("chmod 0600 \(key)") == true)
  }
}

/// Plain TCP: only when both sides want it, and only on loopback.
@Suite(.timeLimit(.minutes(4))) struct PlainPeerTests {
  private let hosts: TestHosts
  private let plain: PeerSecurity

  init() throws {
    hosts = try TestHosts()
    try hosts.add("host-a")
    var configuration = AgentConfiguration()
    configuration.tls.insecure = true
    plain = PeerSecurity(configuration)
  }

  /// A plain server waits for the client's first byte.
  private func hello(_ client: StreamSocket, _ near: PeerSecurity) async throws -> String? {
    try await Blocking.run { () -> String? in
      do {
        let socket = try near.client(client, host: "127.0.0.1", timeoutMs: 60_000)
        let frames = FrameSocket(socket)
        var payload: [UInt8] = []
        AgentUnderAttack.hello(seed: 1).encode(into: &payload)
        try frames.send(.hello, payload)
        guard let header = try frames.receiveHeader() else { return "closed" }
        return String(
          decoding: try frames.receivePayload(of: header), as: UTF8.self)
      } catch { return "\(error)" }
    }
  }

  private func meet(
    _ near: PeerSecurity, _ far: PeerSecurity
  ) async throws -> (client: String?, server: String?) {
    let (client, server) = try TestHosts.sockets()
    async let there = Blocking.run { () -> String? in
      do {
        let socket = try far.server(server, timeoutMs: 60_000)
        _ = try PeerConnection.greet(socket, timeoutMs: 60_000)
        PeerConnection.welcome(socket)
        return nil
      } catch { return "\(error)" }
    }
    return (try await hello(client, near), try await there)
  }

  @Test func bothPlain() async throws {
    let said = try await meet(plain, plain)
    #expect(said.client == "" && said.server == nil)
  }

  @Test func plainToTLS() async throws {
    let said = try await meet(plain, hosts.security("host-a"))
    for text in [said.client, said.server] {
      #expect(text?.contains("speaks TLS only") == true && text?.contains("--insecure") == true)
    }
  }

  @Test func TLSToPlain() async throws {
    let said = try await meet(hosts.security("host-a"), plain)
    #expect(said.client?.contains("doesn't speak TLS") == true, "\(said.client ?? "")")
    #expect(said.client?.contains("--insecure") == true)
    #expect(said.server?.contains("the peer TLS") == true)
  }

  @Test func agentsStartOnlyWhenTheyCanBeSafe() throws {
    func problem(_ change: (inout AgentConfiguration) -> Void) -> String {
      var configuration = hosts.configuration("host-a")
      change(&configuration)
      do { _ = try configuration.checkSecurity() } catch { return "\(error)" }
      return ""
    }
    #expect(problem { _ in } == "")
    let missing = problem { $0.tls.directory = "/nonexistent" }
    #expect(missing.contains("godwit pki init") && missing.contains("godwit pki host NAME"))
    #expect(problem { $0.tls.insecure = true } == "")
    #expect(
      problem {
        $0.tls.insecure = true
        $0.listen = "192.0.2.1:4750"
      }.contains("--insecure-network"))
    #expect(
      problem {
        $0.tls.insecure = true
        $0.tls.insecureNetwork = true
        $0.listen = "192.0.2.1:4750"
      } == "")
    #expect(
      problem {
        $0.tls.insecure = true
        $0.allow = [AllowRule(peer: "a", vms: ["*"])]
      }.contains("allow rules"))
    var configuration = AgentConfiguration()
    configuration.tls.insecure = true
    #expect(configuration.listenAddress == "127.0.0.1:4750")
  }
}
