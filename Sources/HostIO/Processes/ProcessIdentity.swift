import CLinux
import Glibc

/// A process that a recycled pid cannot be taken for.
public struct ProcessIdentity: Sendable, Hashable, Codable {
  public let pid: Int32
  /// Clock ticks between boot and the process's start: field 22 of `/proc/PID/stat` (proc(5)).
  public let startTime: UInt64

  public init(pid: Int32, startTime: UInt64) { (self.pid, self.startTime) = (pid, startTime) }

  /// The process that has this pid now; nil when there is none, or only its exit status is left.
  public init?(pid: Int32) {
    guard let stat = ProcFile.text(pid: pid, "stat"), let fields = ProcessStat(stat),
      !fields.isDead
    else { return nil }
    (self.pid, startTime) = (pid, fields.startTime)
  }

  /// Whether the process still executes.
  public var isAlive: Bool { ProcessIdentity(pid: pid) == self }

  /// Sends a signal to this very process; false when it is gone.
  @discardableResult
  public func signal(_ number: Int32) throws(SystemError) -> Bool {
    guard let handle = try openHandle() else { return false }
    guard godwit_pidfd_send_signal(handle.raw, number) == 0 else {
      if errno == ESRCH { return false }
      throw SystemError("send signal \(number) to process \(pid)")
    }
    return true
  }

  /// A pidfd of this very process, readable once it has ended; nil when it is gone already.
  func openHandle() throws(SystemError) -> Descriptor? {
    let raw = godwit_pidfd_open(pid)
    guard raw >= 0 else {
      if errno == ESRCH || errno == EINVAL { return nil }
      throw SystemError("open a handle of process \(pid)")
    }
    let handle = Descriptor(owning: raw)
    // The pid may have been recycled before the open, but not after it.
    guard isAlive else { return nil }
    return handle
  }
}

/// Fields of `/proc/PID/stat`.
struct ProcessStat: Equatable {
  let state: Character
  let parent: Int32
  let startTime: UInt64
  /// Threads that are left, the first one included even when it has ended.
  let threadCount: Int
  /// Where it ran last; nil in lines that end before.
  let processor: Int?
  /// Nothing of it executes any more. The first thread can be a zombie while others (a QEMU's vCPUs)
  /// still run: only the last one's end is the process's.
  var isDead: Bool { state == "X" || state == "x" || (state == "Z" && threadCount <= 1) }

  /// The name in parentheses may hold spaces and parentheses itself; the last `)` ends it.
  init?(_ text: String) {
    guard let end = text.lastIndex(of: ")") else { return nil }
    let fields = text[text.index(after: end)...].split(separator: " ")
    guard fields.count >= 20, let state = fields[0].first, let parent = Int32(fields[1]),
      let startTime = UInt64(fields[19]), let threadCount = Int(fields[17])
    else { return nil }
    (self.state, self.parent, self.startTime) = (state, parent, startTime)
    self.threadCount = threadCount
    processor = fields.count > 36 ? Int(fields[36]) : nil
  }
}
