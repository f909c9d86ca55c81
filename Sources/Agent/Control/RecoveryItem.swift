public import Base
public import Strategy

/// What `recover` asks of an agent.
public struct RecoverRequest: Codable, Sendable, Equatable {
  /// A VM's name or a migration's id, whole or its first eight characters or more; nil: everything.
  public var target: String?
  /// A person's word for the one migration that `target` names.
  public var decision: OperatorDecision?

  public init(target: String? = nil, decision: OperatorDecision? = nil) {
    (self.target, self.decision) = (target, decision)
  }
}

/// A migration that an agent found in its journals, as it stands after one more try to settle it.
public struct RecoveryItem: Codable, Sendable, Equatable {
  /// Something that a person may decide here, and what the agent then does.
  public struct Choice: Codable, Sendable, Equatable {
    public var decision: OperatorDecision
    public var effect: String
  }

  public var id: String
  @OrNull public var vm: String?
  /// `source` or `destination`: the side this agent is.
  @OrNull public var side: String?
  /// The other agent.
  @OrNull public var peer: String?
  /// The last record of the journal.
  @OrNull public var phase: String?
  /// What QEMU on this host is (`running`, `postmigrate`, `paused`, …), or `gone`; nil: it does not answer.
  @OrNull public var qemu: String?
  /// Where the migration stands, for a person.
  public var state: String
  public var isSettled = false
  /// Nothing goes on before a person has decided, or has brought something back.
  public var needsHuman = false
  public var choices: [Choice] = []

  public init(id: String, state: String) { (self.id, self.state) = (id, state) }
}
