/// Ways to break the protocol on purpose: each must be found, or the checkers prove nothing.
public enum CommitMutation: String, Sendable, CaseIterable {
  /// `commit` is said before SHUT 0.
  case commitsBeforeShut
  /// A source with a committed guest takes it back without asking the destination.
  case sourceDoesNotAsk
  /// The source's decisions are not on disk.
  case sourceJournalsNothing
  /// A destination that could not resume the guest says `lost` before it has written so.
  case destinationAnswersFirst
  /// A destination without a journal vouches that the guest never ran there.
  case destinationVouchesForAll
  /// A source retires its QEMU although the destination still lacks pages.
  case sourceRetiresAtOnce
  /// A rollback runs the guest whatever QEMU says of its migration.
  case rollbackRunsAnyGuest
  /// A person decides without having looked whether what `godwit recover` warns of is so.
  case personGuesses
}
