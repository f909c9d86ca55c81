import HostIO

/// Where a host's certificates and keys lie: Godwit's own folder, or one of QEMU's or libvirt's.
public struct PKILayout: Sendable, Hashable {
  /// Whose names the files have; `custom` where each was named by hand.
  public enum Kind: String, Sendable, Hashable { case godwit, qemu, libvirt, custom }

  /// A certificate and its key.
  public struct Pair: Sendable, Hashable {
    public let certificate, key: String
    public init(certificate: String, key: String) {
      (self.certificate, self.key) = (certificate, key)
    }
  }

  public static let defaultDirectory = "/etc/godwit/pki"

  public let kind: Kind
  public let authority: String
  /// What is shown by the side that is connected to, and by the side that connects.
  public let server, client: Pair

  /// Paths of PEM files; whether they are there isn't looked at.
  public init(kind: Kind, authority: String, server: Pair, client: Pair) {
    (self.kind, self.authority, self.server, self.client) = (kind, authority, server, client)
  }

  /// `ca.pem`, `host.pem`, `host-key.pem`; one certificate for both sides.
  public static func godwit(_ folder: String) -> PKILayout {
    let pair = Pair(certificate: folder + "/host.pem", key: folder + "/host-key.pem")
    return PKILayout(kind: .godwit, authority: folder + "/ca.pem", server: pair, client: pair)
  }

  /// Looks into `folder`, which may be QEMU's `dir=` or libvirt's `/etc/pki`.
  public static func find(in folder: String) throws(PKIError) -> PKILayout {
    let own = PKILayout.godwit(folder)
    if SmallFile.exists(own.server.certificate) { return own }
    if SmallFile.exists(folder + "/ca-cert.pem") {
      return try paired(.qemu, folder, authority: "ca-cert.pem") { side in
        ("\(side)-cert.pem", "\(side)-key.pem")
      }
    }
    if SmallFile.exists(folder + "/CA/cacert.pem") {
      return try paired(.libvirt, folder, authority: "CA/cacert.pem") { side in
        ("libvirt/\(side)cert.pem", "libvirt/private/\(side)key.pem")
      }
    }
    throw PKIError(
      "no certificate for this host in \(folder): run `godwit pki init` on one host, "
        + "then `godwit pki host NAME` for each")
  }

  /// A side whose certificate is not there shows the other side's.
  private static func paired(
    _ kind: Kind, _ folder: String, authority: String, names: (String) -> (String, String)
  ) throws(PKIError) -> PKILayout {
    func pair(_ side: String) -> Pair? {
      let (certificate, key) = names(side)
      let path = folder + "/" + certificate
      return SmallFile.exists(path) ? Pair(certificate: path, key: folder + "/" + key) : nil
    }
    let (server, client) = (pair("server"), pair("client"))
    guard let either = server ?? client else {
      throw PKIError(
        "\(folder)/\(authority) is there, but neither \(names("server").0) nor \(names("client").0)"
      )
    }
    return PKILayout(
      kind: kind, authority: folder + "/" + authority, server: server ?? either,
      client: client ?? either)
  }
}
