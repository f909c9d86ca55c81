import Glibc
public import Logging

/// Writes to systemd's journal with every piece of metadata as a field: `migration` becomes
/// `GODWIT_MIGRATION`, so that `journalctl GODWIT_MIGRATION=…` shows one migration.
public struct JournalLogHandler: LogHandler {
  public static let socketPath = "/run/systemd/journal/socket"

  public var logLevel = Logger.Level.info
  public var metadata = Logger.Metadata()
  private let label: String
  private let journal: DatagramSocket
  /// For what the journal doesn't take.
  private let fallback: StreamLogHandler

  /// - Parameter label: the entry's `SYSLOG_IDENTIFIER`.
  public init(label: String, journal: DatagramSocket) {
    (self.label, self.journal) = (label, journal)
    fallback = StreamLogHandler.standardError(label: label)
  }

  /// A handler where standard error is the journal, whose lines carry no fields; nil elsewhere.
  public static func ifStandardErrorIsJournal(label: String) -> JournalLogHandler? {
    guard let named = EnvironmentVariable.value("JOURNAL_STREAM"), isStandardError(named),
      let journal = try? DatagramSocket(to: socketPath)
    else { return nil }
    return JournalLogHandler(label: label, journal: journal)
  }

  /// Whether `DEVICE:INODE` names what standard error is (systemd.exec(5)).
  static func isStandardError(_ named: String) -> Bool {
    var facts = stat()
    // SAFETY: `facts` lives for the call and is read after success alone.
    guard unsafe fstat(2, &facts) == 0 else { return false }
    return named == "\(facts.st_dev):\(facts.st_ino)"
  }

  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  public func log(event: LogEvent) {
    let all = metadata.merging(event.metadata ?? [:]) { $1 }
    let entry = Self.entry(
      level: event.level, message: "\(event.message)", metadata: all, label: label,
      file: event.file, function: event.function, line: event.line)
    if !journal.send(entry.bytes) { fallback.log(event: event) }
  }

  static func entry(
    level: Logger.Level, message: String, metadata: Logger.Metadata, label: String, file: String,
    function: String, line: UInt
  ) -> JournalEntry {
    let fields = metadata.map { ($0.key, "\($0.value)") }.sorted { $0.0 < $1.0 }
    // The text is what `journalctl` shows by default: there, too, the facts must stand.
    let facts = fields.map { " \($0)=\($1)" }.joined()
    var entry = JournalEntry()
    entry.add("MESSAGE", message + facts)
    entry.add("PRIORITY", "\(level.journalPriority)")
    entry.add("SYSLOG_IDENTIFIER", label)
    entry.add("CODE_FILE", file)
    entry.add("CODE_LINE", "\(line)")
    entry.add("CODE_FUNC", function)
    for (key, value) in fields { entry.add("GODWIT_" + key, value) }
    return entry
  }
}

extension Logger.Level {
  /// As syslog(3) counts.
  var journalPriority: Int {
    switch self {
    case .trace, .debug: 7
    case .info: 6
    case .notice: 5
    case .warning: 4
    case .error: 3
    case .critical: 2
    }
  }
}
