import Glibc
import HostIO

/// What `godwit agent check` finds: whether an agent with this configuration could do its work here.
public struct ConfigurationCheck: Sendable {
  /// `error`: an agent with this configuration couldn't do its work here.
  public enum Weight: String, Codable, Sendable { case ok, warning, error }

  /// One thing that was looked at, be it in order.
  public struct Finding: Codable, Sendable, Equatable {
    public let weight: Weight
    /// The key it is about.
    public let key: String
    public let text: String
  }

  public private(set) var findings: [Finding] = []
  /// No finding is an error; warnings don't count.
  public var isUsable: Bool { !findings.contains { $0.weight == .error } }

  /// Looks at the host; changes nothing and starts nothing.
  public init(_ configuration: AgentConfiguration) {
    folders(configuration)
    security(configuration)
    programs(configuration)
    definitions(configuration)
    limits(configuration)
    do {
      let warnings = try configuration.checkSecurity()
      for warning in warnings { note(.warning, "tls", warning) }
      if warnings.isEmpty { note(.ok, "tls", configuration.tls.certificateFolder) }
    } catch {
      note(.error, "tls", "\(error)")
    }
  }

  private mutating func note(_ weight: Weight, _ key: String, _ text: String) {
    findings.append(Finding(weight: weight, key: key, text: text))
  }

  private static func permits(_ path: String, _ mode: Int32) -> Bool {
    // SAFETY: the path lives for the call.
    unsafe access(path, mode) == 0
  }

  private mutating func folders(_ configuration: AgentConfiguration) {
    for (key, path) in [
      ("stateDirectory", configuration.stateDirectory),
      ("runtimeDirectory", configuration.runtimeDirectory),
    ] {
      var folder = path
      while !Self.permits(folder, F_OK), let slash = folder.lastIndex(of: "/") {
        folder = slash == folder.startIndex ? "/" : String(folder[..<slash])
      }
      if !Self.permits(folder, W_OK | X_OK) {
        note(.error, key, "\(folder) can't be written by this user")
      } else {
        note(.ok, key, path + (folder == path ? "" : ", will be created in \(folder)"))
      }
    }
    do {
      if try Vault(configuration).secret() != nil {
        note(.ok, "vaultKeyFile", "snapshots in the vault are sealed")
      }
    } catch {
      note(.error, "vaultKeyFile", "\(error)")
    }
    for path in configuration.allowedPaths ?? [] where !Self.permits(path, F_OK) {
      note(.warning, "allowedPaths", "\(path) does not exist")
    }
  }

  private mutating func security(_ configuration: AgentConfiguration) {
    do {
      let warnings = try configuration.checkSecurity()
      for warning in warnings { note(.warning, "tls", "\(warning)") }
      if warnings.isEmpty { note(.ok, "tls", "the certificates can be used") }
    } catch {
      note(.error, "tls", "\(error)")
    }
  }

  private mutating func programs(_ configuration: AgentConfiguration) {
    if configuration.allowedPrograms.isEmpty {
      note(.warning, "allowedPrograms", "is empty: no guest can arrive here")
    }
    for path in configuration.allowedPrograms {
      if Self.permits(path, X_OK) {
        note(.ok, "allowedPrograms", path)
      } else {
        note(.error, "allowedPrograms", "\(path) is no program that can be run")
      }
    }
  }

  private mutating func definitions(_ configuration: AgentConfiguration) {
    let folder = configuration.definitionsDirectory
    let names = ProcFile.names(in: folder).filter { $0.hasSuffix(".toml") }.sorted()
    for name in names {
      let vm = String(name.dropLast(".toml".count))
      do {
        guard let definition = try VMDefinition.load(name: vm, configuration: configuration) else {
          note(.error, "definitionsDirectory", "\(folder)/\(name) can't be read")
          continue
        }
        if !configuration.allowedPrograms.contains(definition.program) {
          note(
            .error, "definitionsDirectory",
            "\(folder)/\(name): \(definition.program) is not among allowedPrograms")
        }
      } catch {
        note(.error, "definitionsDirectory", "\(error)")
      }
    }
    if names.isEmpty, !configuration.acceptSourceCommandLine {
      note(
        .warning, "definitionsDirectory",
        "\(folder) has no definitions and acceptSourceCommandLine is off: no guest can arrive here")
    } else {
      note(.ok, "definitionsDirectory", "\(names.count) definitions in \(folder)")
    }
    if configuration.acceptSourceCommandLine, configuration.allowedPaths?.isEmpty ?? true {
      note(
        .warning, "allowedPaths",
        "is empty: a source's command line can't name any file, although acceptSourceCommandLine is on"
      )
    }
  }

  private mutating func limits(_ configuration: AgentConfiguration) {
    let count = UInt64(configuration.outgoingMax + configuration.incomingMax)
    let (most, overflow) = configuration.memoryLimitBytes.multipliedReportingOverflow(by: count)
    let installed =
      UInt64(max(sysconf(Int32(_SC_PHYS_PAGES)), 0))
      * UInt64(
        max(sysconf(Int32(_SC_PAGESIZE)), 0))
    if overflow || (installed > 0 && most > installed / 2) {
      note(
        .warning, "memoryLimit",
        "\(count) migrations at once could take more than half of this host's memory")
    }
    var files = rlimit()
    // SAFETY: `files` lives for the call and is read after success alone.
    if unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files) == 0 {
      // Lanes, QEMU's sockets, a journal; guest memory has a descriptor a block.
      let wanted = count * UInt64(configuration.laneCountMax + 16)
      if UInt64(files.rlim_cur) < wanted {
        note(
          .warning, "laneCountMax",
          "up to \(wanted) open files, the limit here is \(files.rlim_cur) (LimitNOFILE in the unit)"
        )
      }
    }
  }
}
