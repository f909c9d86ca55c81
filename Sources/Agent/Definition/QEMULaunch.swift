import QMP

/// Why a VM is not started here. Names the rule and the remedy.
public struct LaunchRefusal: Error, Hashable, Sendable, CustomStringConvertible {
  public let cause, remedy: String
  public init(_ cause: String, remedy: String) { (self.cause, self.remedy) = (cause, remedy) }
  public var description: String { "\(cause); \(remedy)" }
}

/// The checked command line of a QEMU that will wait for a migration.
public struct QEMULaunch: Sendable, Equatable {
  public let name: String
  public let program: String
  /// Without what the agent adds for itself.
  public let arguments: [String]
  /// Started from a definition of this host rather than from the source's command line.
  public let isFromDefinition: Bool

  /// Arguments of one VM, and bytes in one argument.
  static let argumentCountMax = 4096
  static let argumentLengthMax = 64 << 10

  /// Chooses the definition of `name` when there is one, else, where the operator allows it, the
  /// source's own command line; checks everything against the configuration.
  ///
  /// - Parameter machineType: the source's, with aliases resolved. It replaces an alias such as `pc`,
  ///   which means something else in each QEMU version.
  public static func prepare(
    name: String, sourceProgram: String, sourceArguments: [String], machineType: String?,
    configuration: AgentConfiguration
  ) throws -> QEMULaunch {
    let definition =
      VMDefinition.isFileName(name)
      ? try VMDefinition.load(name: name, configuration: configuration) : nil
    if let definition {
      return try fromDefinition(definition, machineType: machineType, configuration: configuration)
    }
    guard configuration.acceptSourceCommandLine else {
      throw LaunchRefusal(
        "the destination has no definition of \"\(name)\"",
        remedy: "write \(configuration.definitionsDirectory)/\(name).toml there, or allow the "
          + "source's command line with acceptSourceCommandLine = true")
    }
    return try fromSource(
      name: name, program: sourceProgram, arguments: sourceArguments, machineType: machineType,
      configuration: configuration)
  }

  static func fromDefinition(
    _ definition: VMDefinition, machineType: String?, configuration: AgentConfiguration
  ) throws(LaunchRefusal) -> QEMULaunch {
    try checkProgram(definition.program, configuration)
    var arguments = LaunchArguments(definition.arguments)
    try arguments.checkLimits()
    arguments.removeStartup()
    if let machineType { arguments.resolveMachine(to: machineType) }
    arguments.nameIfNameless(definition.name)
    if let monitor = definition.monitor {
      arguments.append(["-qmp", "unix:\(LaunchArguments.escape(monitor)),server=on,wait=off"])
    }
    if let allowed = configuration.allowedPaths {
      try arguments.checkPaths(PathRule(allowed: allowed), strict: false)
    }
    return QEMULaunch(
      name: definition.name, program: definition.program, arguments: arguments.words,
      isFromDefinition: true)
  }

  static func fromSource(
    name: String, program: String, arguments: [String], machineType: String?,
    configuration: AgentConfiguration
  ) throws(LaunchRefusal) -> QEMULaunch {
    // The source may call the same program by another path; then the only allowed one is meant.
    let program =
      !configuration.allowedPrograms.contains(program) && configuration.allowedPrograms.count == 1
      ? configuration.allowedPrograms[0] : program
    try checkProgram(program, configuration)
    var launch = LaunchArguments(arguments)
    try launch.checkLimits()
    launch.removeStartup()
    launch.removeMonitors()
    if let machineType { launch.resolveMachine(to: machineType) }
    launch.nameIfNameless(name)
    launch.rewritePaths(configuration.pathRewrites)
    try launch.checkPaths(PathRule(allowed: configuration.allowedPaths ?? []), strict: true)
    return QEMULaunch(
      name: name, program: program, arguments: launch.words, isFromDefinition: false)
  }

  private static func checkProgram(
    _ program: String, _ configuration: AgentConfiguration
  ) throws(LaunchRefusal) {
    guard configuration.allowedPrograms.contains(program) else {
      throw LaunchRefusal(
        "the program \"\(program.prefix(200))\" is not allowed at the destination",
        remedy: "add it to allowedPrograms in its agent.toml (now: "
          + configuration.allowedPrograms.joined(separator: ", ") + ")")
    }
  }
}
