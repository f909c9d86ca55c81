import Glibc

/// Fault injection for tests: a wall clock that somebody sets while a migration runs.
///
/// `GODWIT_CLOCK_STEP=FILE`: the wall clock is off by as many seconds as FILE says at the moment, 0
/// when it says nothing. Without the variable the clock is the system's. Only what goes through
/// `MonotonicClock.wallSeconds` sees it.
public enum ClockStep {
  public static let variable = "GODWIT_CLOCK_STEP"
  /// Ten years, in seconds.
  static let secondsMax: Int64 = 315_360_000

  private static let path: String? = {
    // SAFETY: getenv's string is copied at once, and nothing changes this process's environment.
    guard let raw = unsafe getenv(variable) else { return nil }
    return unsafe String(cString: raw)
  }()

  /// Whether the wall clock may be anything but the system's.
  public static var isOn: Bool { path != nil }

  static var seconds: Int64 {
    guard let path, let text = try? SmallFile.read(path, bytesMax: 64) else { return 0 }
    return parse(text)
  }

  /// What doesn't read as a number of seconds is 0.
  static func parse(_ text: String) -> Int64 {
    let digits = text.filter { !$0.isWhitespace }
    return max(-secondsMax, min(Int64(digits) ?? 0, secondsMax))
  }
}
