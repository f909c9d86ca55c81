/// How this host runs a VM that migrates to it: `NAME.toml` in the definitions directory.
///
/// ```toml
/// program = "/usr/bin/qemu-system-x86_64"
/// arguments = ["-name", "guest=web1", "-machine", "q35", "-m", "4G", …]
/// monitor = "/run/vms/web1.qmp"   # optional: one that the operator's own tools use
/// ```
/// `-S`, `-incoming`, `-daemonize` and `-pidfile` are the agent's business and left out of it.
public struct VMDefinition: Sendable, Equatable, Decodable {
  /// The name it is asked for by; the file's name when the file does not say.
  public var name: String
  /// Absolute path; must be among the agent's `allowedPrograms`.
  public var program: String
  /// Everything after the program.
  public var arguments: [String]
  /// A QMP socket to serve besides the agent's own.
  public var monitor: String?

  public init(name: String, program: String, arguments: [String], monitor: String? = nil) {
    (self.name, self.program) = (name, program)
    (self.arguments, self.monitor) = (arguments, monitor)
  }

  enum CodingKeys: String, CodingKey, CaseIterable { case name, program, arguments, monitor }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    name = try values.decodeIfPresent(String.self, forKey: .name) ?? ""
    program = try values.decode(String.self, forKey: .program)
    arguments = try values.decode([String].self, forKey: .arguments)
    monitor = try values.decodeIfPresent(String.self, forKey: .monitor)
  }

  /// The definition of `name`; nil when there is none.
  ///
  /// A name that could lead out of the directory is refused: it comes from the peer.
  public static func load(
    name: String, configuration: AgentConfiguration
  ) throws -> VMDefinition? {
    guard isFileName(name) else {
      throw ConfigurationError(
        path: configuration.definitionsDirectory, "\"\(name.prefix(80))\" cannot be a file's name")
    }
    let path = configuration.definitionsDirectory + "/" + name + ".toml"
    guard let text = try ConfigurationFile.text(path) else { return nil }
    return try parse(text, name: name, path: path)
  }

  static func parse(_ text: String, name: String, path: String) throws -> VMDefinition {
    var definition = try ConfigurationFile.decode(
      VMDefinition.self, text, path: path, known: CodingKeys.allCases.map(\.stringValue))
    if definition.name.isEmpty { definition.name = name }
    guard definition.name == name else {
      throw ConfigurationError(
        path: path,
        "says name = \"\(definition.name)\"; the file must be called \(definition.name).toml")
    }
    if let monitor = definition.monitor, !PathRule.isClean(monitor) {
      throw ConfigurationError(path: path, "monitor must be an absolute path")
    }
    return definition
  }

  /// Letters, digits and a few signs, not starting with a dot.
  static func isFileName(_ name: String) -> Bool {
    !name.isEmpty && name.utf8.count <= 128 && !name.hasPrefix(".")
      && name.unicodeScalars.allSatisfy {
        $0.isASCII && ($0.properties.isAlphabetic || ("0"..."9").contains($0))
          || "._-+@ ".unicodeScalars.contains($0)
      }
  }
}
