/// Exit codes of every `godwit` command.
public enum ExitStatus: Int32, Sendable {
  case done = 0
  /// The guest is safe at the source.
  case failed = 1
  case usage = 2
  case refused = 3
  case cancelled = 4
  /// A person must look: the QEMU of the guest is gone, or the commit is in doubt.
  case needsHuman = 5
  /// A defect of Godwit's.
  case defect = 70
}
