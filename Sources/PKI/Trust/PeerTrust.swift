import FoundationEssentials
import HostIO
import SwiftASN1
@_spi(FixedExpiryValidationTime) import X509

/// Judges the certificate that the other agent showed.
public struct PeerTrust: Sendable {
  /// What the certificate has to be good for.
  public enum Purpose: Sendable, Hashable {
    /// The peer was connected to as `host`, a name or an address.
    case server(host: String)
    /// The peer connected to this host.
    case client
  }

  /// Certificates that a peer may show, its own included.
  static let chainLengthMax = 8

  public let authorities: [HostCertificate]
  public let denyList: DenyList

  /// - Parameter authorities: all of them count, a peer's certificate has to come from one.
  public init(authorities: [HostCertificate], denyList: DenyList = DenyList()) {
    (self.authorities, self.denyList) = (authorities, denyList)
  }

  /// The peer's certificate, when it is good.
  ///
  /// - Parameter shown: DER, the peer's own first; TLS has proved that the peer has its key.
  public func judge(
    _ shown: [[UInt8]], for purpose: Purpose
  ) async throws(TrustRefusal) -> HostCertificate {
    guard let first = shown.first else {
      throw TrustRefusal(
        .missing, "no certificate was shown; agents need one (godwit pki host NAME)")
    }
    guard shown.count <= Self.chainLengthMax else {
      throw TrustRefusal(.chain, "\(shown.count) certificates were shown, too many to follow")
    }
    let peer: HostCertificate
    var others: [Certificate] = []
    do throws(PKIError) {
      peer = try HostCertificate(der: first)
      for der in shown.dropFirst() { others.append(try HostCertificate(der: der).certificate) }
    } catch {
      throw TrustRefusal(.unreadable, "\(error)")
    }
    try checkDates(peer)
    try checkUsage(peer, purpose)
    try await checkChain(peer, others)
    if case .server(let host) = purpose { try checkName(peer, host) }
    if denyList.covers(peer) {
      throw TrustRefusal(
        .revoked, "the certificate for \(peer.title) is revoked (serial \(peer.serial))")
    }
    return peer
  }

  private func checkDates(_ peer: HostCertificate) throws(TrustRefusal) {
    let now = Self.now
    if peer.validUntil < now {
      throw TrustRefusal(
        .expired,
        "the certificate for \(peer.title) expired on \(Self.text(peer.validUntil)); "
          + "issue a new one (godwit pki host)")
    }
    if peer.validFrom > now {
      throw TrustRefusal(
        .notYetValid,
        "the certificate for \(peer.title) is valid only from \(Self.text(peer.validFrom)) on; "
          + "are the clocks of both hosts right?")
    }
  }

  private func checkUsage(_ peer: HostCertificate, _ purpose: Purpose) throws(TrustRefusal) {
    if peer.isAuthority {
      throw TrustRefusal(.wrongUsage, "\(peer.subject) is an authority's certificate, no host's")
    }
    let (usage, name): (ExtendedKeyUsage.Usage, String) =
      purpose == .client ? (.clientAuth, "client") : (.serverAuth, "server")
    do {
      let extensions = peer.certificate.extensions
      if let key = try extensions.keyUsage, !key.digitalSignature {
        throw TrustRefusal(
          .wrongUsage, "the certificate for \(peer.title) may not be used for signatures")
      }
      if let allowed = try extensions.extendedKeyUsage,
        !allowed.contains(usage), !allowed.contains(.any)
      {
        throw TrustRefusal(
          .wrongUsage, "the certificate for \(peer.title) may not be used as a \(name)'s")
      }
    } catch let refusal as TrustRefusal {
      throw refusal
    } catch {
      throw TrustRefusal(.unreadable, "the certificate for \(peer.title) cannot be read: \(error)")
    }
  }

  private func checkChain(
    _ peer: HostCertificate, _ others: [Certificate]
  ) async throws(TrustRefusal) {
    let now = Self.now
    var verifier = Verifier(
      rootCertificates: CertificateStore(authorities.map(\.certificate))
    ) {
      RFC5280Policy(fixedExpiryValidationTime: now)
      IssuerPolicy()
    }
    let result = await verifier.validate(
      leaf: peer.certificate, intermediates: CertificateStore(others))
    guard case .couldNotValidate(let failures) = result else { return }
    let trusted = authorities.map(\.subject).joined(separator: ", ")
    if let failure = failures.first {
      if let authority = authorities.first(where: { $0.validUntil < now }) {
        throw TrustRefusal(
          .authorityExpired,
          "the authority \(authority.subject) expired on \(Self.text(authority.validUntil))")
      }
      throw TrustRefusal(
        .chain, "the certificate for \(peer.title): \(failure.policyFailureReason)")
    }
    if peer.subject == peer.issuer {
      throw TrustRefusal(
        .selfSigned,
        "the certificate for \(peer.title) is self-signed; trusted here are those of \(trusted)")
    }
    throw TrustRefusal(
      .otherAuthority,
      "the certificate for \(peer.title) is from another authority (\(peer.issuer)); "
        + "trusted here are those of \(trusted)")
  }

  private func checkName(_ peer: HostCertificate, _ host: String) throws(TrustRefusal) {
    if let wanted = HostName(host), peer.names.contains(where: { $0.covers(wanted) }) { return }
    throw TrustRefusal(
      .wrongName,
      "the certificate is for \(peer.title), not for \(host); use one of its names, "
        + "or issue one for \(host) (godwit pki host)")
  }

  private static var now: Date {
    Date(timeIntervalSince1970: Double(MonotonicClock.wallSeconds))
  }

  static func text(_ date: Date) -> String { date.formatted(.iso8601) }
}

/// Who may sign: only authorities, and only those whose key is for that. RFC 5280 demands both; the
/// general policy lets old certificates pass.
struct IssuerPolicy: VerifierPolicy {
  // Both are looked at, in `PeerTrust`.
  let verifyingCriticalExtensions: [ASN1ObjectIdentifier] = [
    .X509ExtensionID.extendedKeyUsage, .X509ExtensionID.subjectAlternativeName,
  ]

  mutating func chainMeetsPolicyRequirements(
    chain: UnverifiedCertificateChain
  ) async -> PolicyEvaluationResult {
    for issuer in chain.dropFirst() {
      guard case .isCertificateAuthority? = try? issuer.extensions.basicConstraints else {
        return .failsToMeetPolicy(reason: "\(issuer.subject) is no authority, but signed")
      }
      if let usage = try? issuer.extensions.keyUsage, !usage.keyCertSign {
        return .failsToMeetPolicy(reason: "\(issuer.subject) may not sign certificates")
      }
    }
    return .meetsPolicy
  }
}
