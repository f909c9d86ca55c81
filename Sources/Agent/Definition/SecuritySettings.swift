import HostIO
import PKI

/// How agents prove who they are: the `[tls]` table of the configuration.
public struct SecuritySettings: Sendable, Equatable {
  /// Godwit's folder, or one of QEMU's or libvirt's layout (`/etc/pki`).
  public var directory = PKILayout.defaultDirectory
  /// Files in place of those of `directory`; certificate and key belong together.
  public var authority, certificate, key: String?
  /// Certificates that count no more; nil: `denied` in `directory`, where there is one.
  public var denyFile: String?
  /// Plain TCP, without encryption and without knowing the peer; on loopback only.
  public var insecure = false
  /// With `insecure`: other addresses, too.
  public var insecureNetwork = false

  public init() {}

  /// Where certificates and keys are. Reads folders, not the files themselves.
  func layout() throws(PKIError) -> PKILayout {
    var layout: PKILayout
    if let certificate, let key {
      let pair = PKILayout.Pair(certificate: certificate, key: key)
      layout = PKILayout(
        kind: .custom, authority: PKILayout.godwit(directory).authority, server: pair, client: pair)
    } else {
      layout = try PKILayout.find(in: directory)
    }
    guard let authority else { return layout }
    return PKILayout(
      kind: layout.kind, authority: authority, server: layout.server, client: layout.client)
  }

  /// Where the certificate is, for people.
  var certificateFolder: String { certificate ?? directory }

  /// The list as it is now. A list that can't be read lets nobody in.
  func denyList() throws(PKIError) -> DenyList {
    if let denyFile { return try DenyList.load(denyFile) }
    let path = directory + "/denied"
    return SmallFile.exists(path) ? try DenyList.load(path) : DenyList()
  }

  /// What is wrong with the table by itself; nil when it is sound.
  var problem: String? {
    let named = [
      ("directory", directory), ("authority", authority), ("certificate", certificate),
      ("key", key), ("denyFile", denyFile),
    ]
    for case (let key, let path?) in named where !PathRule.isClean(path) {
      return "tls.\(key): \"\(path)\" must be an absolute path without \"..\""
    }
    if (certificate == nil) != (key == nil) { return "tls: certificate and key belong together" }
    if insecureNetwork, !insecure { return "tls.insecureNetwork: has no meaning without insecure" }
    return nil
  }
}

extension SecuritySettings: Decodable {
  enum CodingKeys: String, CodingKey, CaseIterable {
    case directory, authority, certificate, key, denyFile, insecure, insecureNetwork
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    directory = try values.decodeIfPresent(String.self, forKey: .directory) ?? directory
    authority = try values.decodeIfPresent(String.self, forKey: .authority)
    certificate = try values.decodeIfPresent(String.self, forKey: .certificate)
    key = try values.decodeIfPresent(String.self, forKey: .key)
    denyFile = try values.decodeIfPresent(String.self, forKey: .denyFile)
    insecure = try values.decodeIfPresent(Bool.self, forKey: .insecure) ?? false
    insecureNetwork = try values.decodeIfPresent(Bool.self, forKey: .insecureNetwork) ?? false
  }
}
