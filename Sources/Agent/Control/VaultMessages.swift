public import Base

/// What `godwit vault` asks of an agent.
public struct VaultRequest: Codable, Sendable, Equatable {
  /// What is done with the targets.
  public enum Action: String, Codable, Sendable {
    case list
    /// Read everything and compare it with its checksums.
    case verify
    /// Remove the targets; without any: files that are no snapshots (any more), what a dead agent left unfinished,
    /// and what is over the quota.
    case prune
  }

  /// Targets in one request.
  public static let targetsMax = 1000

  public var action: Action
  /// Guests by name or UUID, snapshots by id: whole, or its first eight digits or more. Empty: see `Action`; for
  /// the others everything.
  public var targets: [String]
  /// For `prune`: remove everything.
  public var all = false

  public init(_ action: Action, targets: [String] = [], all: Bool = false) {
    (self.action, self.targets, self.all) = (action, targets, all)
  }

  /// What is wrong with the values, in one line; nil when nothing is.
  public var problem: String? {
    if targets.count > Self.targetsMax { return "at most \(Self.targetsMax) names at once" }
    if all, action != .prune || !targets.isEmpty { return "--all stands alone, with prune" }
    return nil
  }
}

/// A snapshot of a guest's memory in an agent's vault.
public struct VaultItem: Codable, Sendable, Equatable {
  /// How the snapshot is after what was asked for.
  public enum State: String, Codable, Sendable {
    /// Its head and its end are there; with `verify` all of it.
    case whole
    case damaged
    /// `prune` removed it.
    case removed
  }

  public var id: String
  public var state: State
  /// The guest's name and UUID; nil when they can't be read.
  @OrNull public var vm: String?
  @OrNull public var uuid: String?
  /// Seconds since 1970.
  @OrNull public var takenAt: Int64?
  /// Of its file.
  public var bytes: UInt64
  /// Of the guest.
  @OrNull public var ramBytes: UInt64?
  /// Pages that are stored, and that were zero.
  @OrNull public var pages: UInt64?
  @OrNull public var zeroPages: UInt64?
  /// It takes the host's key to read it (`vaultKeyFile`).
  public var isSealed = false
  /// Migrations that took pages of it, and when the last one did.
  public var uses: UInt64 = 0
  @OrNull public var lastUsedAt: Int64?
  /// What is wrong with it.
  @OrNull public var problem: String?

  public init(id: String, state: State, bytes: UInt64) {
    (self.id, self.state, self.bytes) = (id, state, bytes)
  }
}
