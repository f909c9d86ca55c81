import Glibc

/// How a child ended.
public enum ProcessEnd: Sendable, Hashable, CustomStringConvertible {
  case exited(Int32)
  case signalled(Int32)
  /// It was no child of ours, or somebody else took its status.
  case unknown

  public var description: String {
    switch self {
    case .exited(let code): "exited with status \(code)"
    case .signalled(let number): "was killed by signal \(number)"
    case .unknown: "ended"
    }
  }
}

extension ProcessIdentity {
  /// Returns once the process has ended, with how when it was our child (which is reaped), or nil
  /// after `timeoutMs` milliseconds. Not cancellable: bounded by the time-out.
  public func waitForExit(timeoutMs: UInt64) async throws -> ProcessEnd? {
    guard let handle = try openHandle() else { return reap() }
    let box = HandleBox(handle)
    let deadlineMs = MonotonicClock.nowMs &+ min(timeoutMs, 1 << 40)
    return try await withCheckedThrowingContinuation { continuation in
      // A thread of its own: the wait blocks, and NIO's pool has few threads.
      _ = WorkerThread("wait-\(pid)") {
        continuation.resume(with: Result { try box.wait(until: deadlineMs) ? reap() : nil })
      }
    }
  }

  /// Returns once the process is gone, and takes its status when it was our child. A wait that fails proves nothing: then
  /// the process is looked at now and then, until waiting works again.
  ///
  /// - Returns: false when the task was cancelled first.
  public func waitUntilGone() async -> Bool {
    await Self.waitUntilGone(isAlive: { isAlive }, pauseMs: 1000) {
      try await waitForExit(timeoutMs: 60_000)
    }
  }

  static func waitUntilGone(
    isAlive: () -> Bool, pauseMs: UInt64, _ wait: () async throws -> ProcessEnd?
  ) async -> Bool {
    while !Task.isCancelled {
      do { if try await wait() != nil { return true } } catch {
        guard isAlive() else { return true }
        try? await Task.sleep(nanoseconds: pauseMs * 1_000_000)
      }
    }
    return false
  }

  /// Ends the process with SIGTERM, and with SIGKILL when it is still there `graceMs` later.
  ///
  /// An incoming post-copy QEMU ignores SIGTERM, hence the second step.
  @discardableResult
  public func terminate(graceMs: UInt64) async throws -> ProcessEnd {
    guard try signal(SIGTERM) else { return reap() }
    if let end = try await waitForExit(timeoutMs: graceMs) { return end }
    guard try signal(SIGKILL) else { return reap() }
    // A killed process that does not end hangs in the kernel; nothing more can be done about it.
    return try await waitForExit(timeoutMs: 10_000) ?? .unknown
  }

  /// Takes the exit status when this was our child.
  private func reap() -> ProcessEnd {
    // SAFETY: the kernel fills the one integer whose address it gets.
    var status: Int32 = 0
    guard unsafe waitpid(pid, &status, WNOHANG) == pid else { return .unknown }
    let signal = status & 0x7F
    return signal == 0 ? .exited((status >> 8) & 0xFF) : .signalled(signal)
  }
}

private final class HandleBox: Sendable {
  private let handle: Descriptor
  init(_ handle: consuming Descriptor) { self.handle = handle }

  /// Blocks until the process has ended (true) or the deadline has passed.
  func wait(until deadlineMs: UInt64) throws(SystemError) -> Bool {
    while true {
      let nowMs = MonotonicClock.nowMs
      let leftMs = deadlineMs > nowMs ? deadlineMs - nowMs : 0
      // SAFETY: one descriptor, and a count of one.
      var poller = pollfd(fd: handle.raw, events: Int16(POLLIN), revents: 0)
      let ready = unsafe poll(&poller, 1, Int32(clamping: leftMs))
      if ready > 0 { return true }
      if ready < 0 {
        guard errno == EINTR else { throw SystemError("wait for a process") }
      } else if leftMs <= Int32.max {
        return false
      }
    }
  }
}
