/// Text forms of durations; the value itself is a plain `UInt64` with `Ms` in its name.
public enum Milliseconds {
  /// Reads `300ms`, `1.5s`, `2m`, `1h`; a bare number is refused, because its unit is a guess.
  public static func parse(_ text: String) -> UInt64? {
    let factors: [(String, UInt64)] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]
    return DecimalNumber(parsing: text, units: factors)?.scaled
  }

  /// `87 ms`, `5.21 s`, `3 m 20 s`.
  public static func format(_ ms: UInt64) -> String {
    if ms < 1000 { return "\(ms) ms" }
    if ms < 60_000 { return DecimalNumber.format(ms, units: [(1000, "s")], base: "ms") }
    let seconds = ms / 1000
    if seconds < 3600 { return "\(seconds / 60) m \(seconds % 60) s" }
    return "\(seconds / 3600) h \(seconds % 3600 / 60) m"
  }
}
