import Agent
import ArgumentParser
import Base

/// `godwit vault`: what is kept of guests' memory on this host.
struct VaultCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vault", abstract: "Show and remove what is kept of guests' memory on this host.",
    discussion: """
      A guest that leaves with godwit migrate --keep leaves a copy of its memory, so that its return \
      sends little more than what changed meanwhile. The agent keeps one snapshot a guest, in the \
      folder vault of its stateDirectory, within vaultQuota; what is least likely to be of use goes \
      first. Memory of guests is a secret: the files are the agent's user's alone (mode 0600), and sealed \
      (AES-256-GCM) where the agent's configuration names a key (vaultKeyFile).
      """,
    subcommands: [VaultListCommand.self, VaultVerifyCommand.self, VaultPruneCommand.self])
}

struct VaultListCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the snapshots of this host's vault.")

  @Argument(help: "Guests by name or UUID, or snapshots by id (default: all).")
  var targets: [String] = []
  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let items = try await control.client.vault(VaultRequest(.list, targets: targets))
    try VaultReport.show(items, json: output.json, ifNone: "the vault is empty")
  }
}

struct VaultVerifyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Read snapshots whole and compare them with their checksums.",
    discussion: """
      A damaged snapshot costs bandwidth alone: every page of it is proven before a guest gets it. Exit \
      status 1 when one is damaged; godwit vault prune ID removes it.
      """)

  @Argument(help: "Guests by name or UUID, or snapshots by id (default: all).")
  var targets: [String] = []
  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let items = try await control.client.vault(VaultRequest(.verify, targets: targets))
    try VaultReport.show(items, json: output.json, ifNone: "the vault is empty")
    if items.contains(where: { $0.state == .damaged }) { throw ExitStatus.failed.exitCode }
  }
}

struct VaultPruneCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prune", abstract: "Remove snapshots.",
    discussion: """
      Without names: files that are no snapshots any more, and as many as are over vaultQuota. The files are removed \
      and not overwritten first: most file systems and disks write elsewhere. Where that matters, have them \
      sealed (vaultKeyFile), or keep stateDirectory on an encrypted file system.
      """)

  @Argument(help: "Guests by name or UUID, or snapshots by id.")
  var targets: [String] = []
  @Flag(help: "Remove everything.")
  var all = false
  @OptionGroup var control: ControlOptions
  @OptionGroup var output: OutputOptions

  private var request: VaultRequest { VaultRequest(.prune, targets: targets, all: all) }

  func validate() throws {
    if let problem = request.problem { throw ValidationError(problem) }
  }

  func run() async throws {
    let items = try await control.client.vault(request)
    try VaultReport.show(items, json: output.json, ifNone: "nothing was removed")
  }
}

/// Snapshots as people read them.
enum VaultReport {
  static func show(_ items: [VaultItem], json: Bool, ifNone: String) throws {
    if json { return try items.forEach { try Output.json($0) } }
    guard !items.isEmpty else { return Output.line(ifNone) }
    table(items).lines(fitting: Terminal.columns()).forEach(Output.line)
  }

  static func table(_ items: [VaultItem]) -> Table {
    var table = Table([
      "VM", "STATE", "TAKEN", "SIZE", "OF", "USES", "LAST USED", "ID", "PROBLEM",
    ])
    for item in items {
      table.add([
        item.vm ?? "-", item.state.rawValue + (item.isSealed ? ", sealed" : ""),
        item.takenAt.map(ListTime.utc) ?? "-",
        ByteCount(item.bytes).description, item.ramBytes.map { ByteCount($0).description } ?? "-",
        "\(item.uses)", item.lastUsedAt.map(ListTime.utc) ?? "-", String(item.id.prefix(12)),
        item.problem ?? "",
      ])
    }
    return table
  }
}
