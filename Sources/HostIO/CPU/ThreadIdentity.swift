import CLinux
import Glibc

/// A thread of a process that neither a recycled pid nor a recycled thread id can be taken for.
public struct ThreadIdentity: Sendable, Hashable, Codable {
  public let process: ProcessIdentity
  public let tid: Int32
  /// Clock ticks between boot and the thread's start.
  public let startTime: UInt64

  /// From what a journal says; `isAlive` tells whether there still is such a thread.
  public init(process: ProcessIdentity, tid: Int32, startTime: UInt64) {
    (self.process, self.tid, self.startTime) = (process, tid, startTime)
  }

  /// The thread of `process` that has this id now; nil when the process is gone or `tid` is a thread of
  /// something else.
  public init?(process: ProcessIdentity, tid: Int32) {
    guard tid > 0, process.isAlive,
      let text = ProcFile.text(pid: process.pid, "task/\(tid)/stat"),
      let stat = ProcessStat(text), process.isAlive
    else { return nil }
    self.init(process: process, tid: tid, startTime: stat.startTime)
  }

  /// Whether it still is what it was.
  public var isAlive: Bool { ThreadIdentity(process: process, tid: tid) == self }

  /// The processor it ran on last; nil when it is gone.
  public var lastProcessor: Int? {
    ProcFile.text(pid: process.pid, "task/\(tid)/stat").flatMap(ProcessStat.init)?.processor
  }

  /// The processors it may use.
  public func affinity() throws(SystemError) -> CPUSet {
    var set = CPUSet()
    // SAFETY: the kernel writes at most the bytes it is told of; the pointer does not leave the closure.
    let count = unsafe set.words.withUnsafeMutableBytes { raw in
      unsafe godwit_get_affinity(tid, raw.baseAddress, UInt(raw.count))
    }
    guard count > 0 else { throw SystemError("read the affinity of thread \(tid)") }
    return set
  }

  /// Confines it to these processors, as far as its cpuset has them. False when the thread is gone.
  ///
  /// The kernel has no handle of a thread that outlives it, so identity is looked at just before.
  @discardableResult
  public func setAffinity(_ set: CPUSet) throws(SystemError) -> Bool {
    guard isAlive else { return false }
    // SAFETY: the kernel reads as many bytes as there are; the pointer does not leave the closure.
    let result = unsafe set.words.withUnsafeBytes { raw in
      unsafe godwit_set_affinity(tid, raw.baseAddress, UInt(raw.count))
    }
    guard result == 0 else {
      if errno == ESRCH { return false }
      throw SystemError("confine thread \(tid) to processors \(set)")
    }
    return true
  }
}
