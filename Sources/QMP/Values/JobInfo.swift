/// `query-jobs`: one background job.
public struct JobInfo: Sendable, Hashable {
  /// As far as anybody here tells them apart.
  public enum Status: Sendable, Hashable {
    /// It works, or waits to.
    case running
    /// A mirror has both sides the same, and keeps them so until it is told to end.
    case ready
    /// It has done its work, and changes over when it is finalized.
    case pending
    /// It has ended and waits to be dismissed.
    case concluded
    case other(String)

    init(_ name: String) {
      self =
        switch name {
        case "created", "running", "paused": .running
        case "ready", "standby": .ready
        case "pending": .pending
        case "concluded": .concluded
        default: .other(name)
        }
    }
  }

  public let id, type: String
  public let status: Status
  /// For a copy: bytes that are done, and those plus what is owed now.
  public let currentProgress, totalProgress: UInt64
  /// Why it failed, in QEMU's words; nil: it has not.
  public let error: String?

  /// nil without an id or a status; progress that isn't said is 0.
  public init?(_ json: JSONValue) {
    guard let id = json["id"]?.string, let status = json["status"]?.string else { return nil }
    (self.id, type) = (id, json["type"]?.string ?? "")
    self.status = Status(status)
    currentProgress = json["current-progress"]?.uint64 ?? 0
    totalProgress = json["total-progress"]?.uint64 ?? 0
    error = json["error"]?.string
  }

  /// Bytes that a copy still owes.
  public var owedBytes: UInt64 {
    totalProgress > currentProgress ? totalProgress - currentProgress : 0
  }
}
