import Glibc

/// The one clock that cores are fed from: monotonic, not set back by anybody.
public enum MonotonicClock {
  /// Microseconds since some fixed instant of this boot.
  public static var nowUs: UInt64 {
    var now = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000 + UInt64(now.tv_nsec) / 1000
  }

  /// Milliseconds since some fixed instant of this boot.
  public static var nowMs: UInt64 { nowUs / 1000 }

  /// Processor time that the calling thread has used, in microseconds.
  public static var threadUs: UInt64 {
    var now = timespec()
    unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now)
    return UInt64(now.tv_sec) * 1_000_000 + UInt64(now.tv_nsec) / 1000
  }

  /// Seconds since 1970, for records that people read and dates of certificates; it may jump.
  public static var wallSeconds: Int64 { Int64(time(nil)) + ClockStep.seconds }

  /// Blocks the calling thread. Only on threads of their own.
  public static func sleep(us: UInt64) {
    let request = timespec(tv_sec: Int(us / 1_000_000), tv_nsec: Int(us % 1_000_000) * 1000)
    // SAFETY: `request` lives for the call; nil: the rest of an interrupted sleep is not wanted.
    unsafe withUnsafePointer(to: request) { _ = unsafe nanosleep($0, nil) }
  }
}
