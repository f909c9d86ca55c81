import HostIO

/// Writes the folders that `godwit pki` makes.
public enum PKIFolder {
  /// Makes an authority in `folder`.
  public static func makeAuthority(
    in folder: String, name: String, days: Int, replacing: Bool
  ) throws(PKIError) -> HostCertificate {
    try make(folder)
    // A new authority makes every certificate of the old one worthless: never by accident.
    if !replacing, SmallFile.exists(folder + "/ca.pem") {
      throw PKIError("\(folder)/ca.pem is there already; --force replaces the authority")
    }
    let authority = try Authority.create(name: name, days: days)
    try PrivateFile.write(
      try authority.keyPEM, to: folder + "/ca-key.pem", mode: 0o600, replacing: replacing)
    try PrivateFile.write(
      authority.certificate.pem, to: folder + "/ca.pem", mode: 0o644, replacing: replacing)
    return authority.certificate
  }

  /// Issues a certificate with the authority in `folder` and puts it, its key and the authority's
  /// certificate into `output`: all that a host's agent needs.
  public static func issueHost(
    from folder: String, names: [HostName], days: Int, output: String, replacing: Bool
  ) throws(PKIError) -> HostCertificate {
    let authority = try Authority.load(from: folder)
    try make(output)
    let layout = PKILayout.godwit(output)
    for path in [layout.server.key, layout.server.certificate]
    where !replacing && SmallFile.exists(path) {
      throw PKIError("\(path) is there already; --force replaces it, --out FOLDER writes elsewhere")
    }
    let issued = try authority.issue(names: names, days: days)
    try PrivateFile.write(issued.keyPEM, to: layout.server.key, mode: 0o600, replacing: replacing)
    try PrivateFile.write(
      issued.certificate.pem, to: layout.server.certificate, mode: 0o644, replacing: replacing)
    // Where the authority itself lies, its certificate is there.
    let trusted = try PrivateFile.readText(folder + "/ca.pem")
    if (try? PrivateFile.readText(layout.authority)) != trusted {
      try PrivateFile.write(trusted, to: layout.authority, mode: 0o644, replacing: replacing)
    }
    return issued.certificate
  }

  private static func make(_ folder: String) throws(PKIError) {
    do { try PrivateDirectory.make(folder) } catch { throw PKIError("cannot \(error)") }
  }
}
