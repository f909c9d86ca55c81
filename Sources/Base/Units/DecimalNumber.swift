/// A number with a unit, read and written without floating point.
struct DecimalNumber {
  /// The value times the unit's factor, truncated.
  let scaled: UInt64

  /// Reads `digits[.digits][space]unit`; the first unit that matches the whole suffix counts.
  init?(parsing text: String, units: [(String, UInt64)]) {
    let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let suffix = text.dropFirst(number.count).drop { $0 == " " }
    guard let factor = units.first(where: { $0.0 == suffix })?.1 else { return nil }
    let parts = number.split(separator: ".", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), let whole = UInt64(parts[0]) else { return nil }
    var (total, overflow) = whole.multipliedReportingOverflow(by: factor)
    guard !overflow else { return nil }
    if parts.count == 2 {
      guard parts[1].count <= 6, let fraction = UInt64(parts[1]) else { return nil }
      var divisor: UInt64 = 1
      for _ in parts[1] { divisor *= 10 }
      let (part, tooLarge) = fraction.multipliedReportingOverflow(by: factor)
      guard !tooLarge else { return nil }
      (total, overflow) = total.addingReportingOverflow(part / divisor)
    }
    guard !overflow, total < 1 << 63 else { return nil }
    scaled = total
  }

  /// Three significant digits in the largest unit that is not above `value`.
  static func format(_ value: UInt64, units: [(UInt64, String)], base: String) -> String {
    guard let (factor, name) = units.first(where: { value >= $0.0 }) else {
      return "\(value) \(base)"
    }
    let whole = value / factor
    if whole >= 100 { return "\(whole) \(name)" }
    let digits: UInt64 = whole >= 10 ? 10 : 100
    let fraction = value % factor * digits / factor  // factor <= 2^40, digits <= 100: no overflow
    if fraction == 0 { return "\(whole) \(name)" }
    var text = "\(fraction)"
    if digits == 100, fraction < 10 { text = "0" + text }
    while text.hasSuffix("0") { text.removeLast() }
    return "\(whole).\(text) \(name)"
  }
}
