import FoundationEssentials

/// Instants in lists.
enum ListTime {
  /// `2026-01-31T12:00:00Z`; times outside the years 1970 to 9999 are not shown.
  static func utc(_ seconds: Int64) -> String {
    guard (0...253_402_300_799).contains(seconds) else { return "-" }
    return Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
  }
}
