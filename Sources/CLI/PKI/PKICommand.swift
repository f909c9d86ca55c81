public import ArgumentParser
import FoundationEssentials
import Glibc
import PKI

/// `godwit pki`: the certificates with which agents know each other.
public struct PKICommand: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "pki",
    abstract: "Make and show the certificates with which agents know each other.",
    discussion: """
      One authority signs a certificate for each host. Agents take TLS 1.3 connections from hosts of \
      the same authority only, and check that the host they connect to has the name they asked for. \
      godwit pki init makes the authority, once; godwit pki host NAME makes what one host needs. No \
      agent needs ca-key.pem: whoever reads that file can let any host in. A certificate is revoked \
      by its serial number or fingerprint, one a line, in the file `denied` beside it on each host.
      """,
    subcommands: [PKIInitCommand.self, PKIHostCommand.self, PKIShowCommand.self])

  public init() {}
}

struct PKIFolderOptions: ParsableArguments {
  @Option(
    name: .customLong("dir"),
    help: ArgumentHelp(
      "Folder of certificates and keys (default: /etc/godwit/pki; without root: $XDG_CONFIG_HOME/godwit/pki).",
      valueName: "path"))
  var directory: String?

  /// The folder, absolute or as given.
  var path: String {
    let path = directory ?? Self.defaultPath
    return path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
  }

  /// Where the agent of this user looks, too.
  static var defaultPath: String {
    guard geteuid() != 0 else { return PKILayout.defaultDirectory }
    let environment = ProcessInfo.processInfo.environment
    let base = environment["XDG_CONFIG_HOME"] ?? environment["HOME"].map { $0 + "/.config" }
    return base.map { $0 + "/godwit/pki" } ?? PKILayout.defaultDirectory
  }
}

/// Validity as people write it.
enum PKIArguments {
  static func validate(days: Int) throws {
    guard (1...Authority.daysMax).contains(days) else {
      throw ValidationError("--days takes 1 to \(Authority.daysMax), not \(days)")
    }
  }
}
