import FoundationEssentials
import HostIO
import PKI

extension AgentConfiguration {
  static let listenDefault = AgentConfiguration().listen
  /// A certificate that ends this soon is worth a warning, in seconds.
  static let renewalSeconds = 30.0 * 86_400

  /// Where to listen: plain TCP stays on loopback unless the operator names another address.
  var listenAddress: String {
    tls.insecure && !tls.insecureNetwork && listen == Self.listenDefault ? "127.0.0.1:4750" : listen
  }

  /// Whether connections can be made secure as configured; throws what has to be mended first.
  ///
  /// - Returns: what the operator should see to soon.
  func checkSecurity() throws -> [String] {
    if let problem = tls.problem { throw SecurityError(problem, remedy: "mend the configuration") }
    guard !tls.insecure else {
      guard allow.isEmpty else {
        throw SecurityError(
          "allow rules name certificates, and plain TCP (--insecure) has none",
          remedy: "set certificates up (godwit pki), or remove the rules")
      }
      let host = TCPSocket.split(listenAddress, defaultPort: TCPSocket.defaultPort)?.host
      guard tls.insecureNetwork || host.map(TCPSocket.isLoopback) == true else {
        throw SecurityError(
          "\(listenAddress) is no loopback address, and --insecure means plain TCP",
          remedy: "set certificates up (godwit pki), listen on 127.0.0.1, "
            + "or add --insecure-network where only your hosts can reach the network")
      }
      return ["agents talk over plain TCP (--insecure): no encryption, and peers are not known"]
    }
    let layout: PKILayout
    do { layout = try tls.layout() } catch {
      throw PKIError("\(error); or start with --insecure, plain TCP on loopback only")
    }
    let pki = try HostPKI(layout)
    _ = try tls.denyList()
    var warnings: [String] = []
    for role in [TLSCredentials.Role.server, .client] {
      _ = try pki.credentials(role)
      guard let own = try pki.certificates(role).first else { continue }
      if own.validUntil < .now {
        warnings.append("this host's certificate expired on \(own.validUntil.formatted(.iso8601))")
      } else if own.validUntil < .now.addingTimeInterval(Self.renewalSeconds) {
        warnings.append("this host's certificate ends on \(own.validUntil.formatted(.iso8601))")
      }
    }
    return Array(Set(warnings)).sorted()
  }
}
