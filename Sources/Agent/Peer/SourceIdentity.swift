/// Which host may speak for a migration's source after its first connection: the one that began it.
///
/// Known by the names of its certificate, as in `[[allow]]`, so that a renewed certificate is the same host's. A name
/// that every host may have, of the machine itself, proves nothing.
struct SourceIdentity: Sendable, Hashable {
  /// Of the certificate that began the migration; empty over plain TCP, nil in a journal that has none: then nobody
  /// is known, and everybody who knows the migration's number is let in.
  let names: [String]?

  /// Why a peer whose certificate has `peerNames` may not speak for the source; nil when it may.
  func refusal(of peerNames: [String]) -> String? {
    guard let names, !names.isEmpty else { return nil }
    let known = Self.telling(names)
    guard known.isDisjoint(with: Self.telling(peerNames)) else { return nil }
    return "another host brought this migration"
  }

  /// In lower case, without those that all hosts share; where there are no others, these.
  private static func telling(_ names: [String]) -> Set<String> {
    let all = Set(names.map { $0.lowercased() })
    let own = all.filter { !isLocal($0) }
    return own.isEmpty ? all : own
  }

  private static func isLocal(_ name: String) -> Bool {
    name == "localhost" || name.hasPrefix("localhost.") || name == "::1" || name.hasPrefix("127.")
  }
}
