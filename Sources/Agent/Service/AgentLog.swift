import HostIO
public import Logging

/// Where an agent's log goes.
public enum AgentLog {
  /// The journal with its fields where standard error leads there, else lines on standard error.
  public static func handler(label: String) -> any LogHandler {
    JournalLogHandler.ifStandardErrorIsJournal(label: label)
      ?? StreamLogHandler.standardError(label: label)
  }
}
