import Agent
import ArgumentParser
import PKI

struct PKIInitCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Make an authority that signs the certificates of hosts.",
    discussion: """
      Writes ca.pem and ca-key.pem (mode 0600). Once for all hosts that migrate to each other; keep \
      the key on this host, or take it away to a safe place.
      """)

  @OptionGroup var folder: PKIFolderOptions
  @Option(help: "Name of the authority, for people.")
  var name = "Godwit authority"
  @Option(help: ArgumentHelp("How long it is valid.", valueName: "days"))
  var days = Authority.daysDefault
  @Flag(help: "Replace an authority that is there: certificates of the old one count no more.")
  var force = false
  @OptionGroup var output: OutputOptions

  func validate() throws {
    try PKIArguments.validate(days: days)
    guard (1...64).contains(name.count), !name.contains(where: \.isNewline) else {
      throw ValidationError("--name takes 1 to 64 characters")
    }
  }

  func run() async throws {
    let authority = try PKIFolder.makeAuthority(
      in: folder.path, name: name, days: days, replacing: force)
    if output.json { return try Output.json(CertificateReport(authority, role: "authority")) }
    Output.line("authority \(TerminalText.plain(authority.subject)) in \(folder.path)")
    Output.line("next, for each host: godwit pki host NAME")
  }
}

struct PKIHostCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "host", abstract: "Make the certificate and key of a host.",
    discussion: """
      Run it where the authority is. The names are those by which other hosts connect to this one: of \
      DNS, or addresses. Writes ca.pem, host.pem and host-key.pem (mode 0600), all that the host's \
      agent needs, beside the authority or to --out; copy that folder to /etc/godwit/pki of the host.
      """)

  @Argument(help: "Names and addresses of the host.")
  var names: [String]
  @OptionGroup var folder: PKIFolderOptions
  @Option(help: ArgumentHelp("Folder for the files (default: that of --dir).", valueName: "path"))
  var out: String?
  @Option(help: ArgumentHelp("How long it is valid.", valueName: "days"))
  var days = Authority.hostDaysDefault
  @Flag(help: "Replace a certificate and key that are there.")
  var force = false
  @OptionGroup var output: OutputOptions

  func validate() throws {
    try PKIArguments.validate(days: days)
    for name in names where HostName(name) == nil {
      throw ValidationError("\(TerminalText.plain(name)) is neither a host name nor an address")
    }
  }

  func run() async throws {
    let target = out ?? folder.path
    let host = try PKIFolder.issueHost(
      from: folder.path, names: names.compactMap { HostName($0) }, days: days, output: target,
      replacing: force)
    if output.json { return try Output.json(CertificateReport(host, role: "host")) }
    Output.line(
      "certificate for \(host.title), valid until \(CertificateReport.text(host.validUntil))")
    Output.line(
      out == nil ? "in \(target)" : "in \(target); copy it to \(PKILayout.defaultDirectory) there")
  }
}
