import PKI

/// Certificates for the lab's hosts, from an authority that lives as long as the run.
enum LabPKI {
  static let days = 2

  static func make(for hosts: HostPair, in folder: RunFolder) throws {
    let authority = folder.file("pki")
    _ = try PKIFolder.makeAuthority(
      in: authority, name: "Godwit lab", days: days, replacing: false)
    for side in HostPair.Side.allCases {
      let names = [side.rawValue, hosts.address(side)].compactMap { HostName($0) }
      _ = try PKIFolder.issueHost(
        from: authority, names: names, days: days, output: folder.file("pki-\(side.rawValue)"),
        replacing: false)
    }
  }
}
