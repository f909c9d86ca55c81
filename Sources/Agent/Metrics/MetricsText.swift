/// Metrics in Prometheus's text format 0.0.4. Pure.
struct MetricsText {
  enum Kind: String { case counter, gauge, histogram }

  static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  private(set) var text = ""
  private var name = ""

  /// Begins a metric; its samples follow.
  mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
    self.name = name
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
  }

  /// A sample of the metric that was begun; without a value there is none.
  mutating func add(
    _ value: MetricValue?, _ labels: [(String, String)] = [], suffix: String = ""
  ) {
    guard let value else { return }
    text += name + suffix
    if !labels.isEmpty {
      let pairs = labels.map { "\($0)=\"\(Self.escaped($1))\"" }
      text += "{" + pairs.joined(separator: ",") + "}"
    }
    text += " \(value.text)\n"
  }

  /// All samples of a histogram.
  mutating func add(_ histogram: MetricHistogram) {
    var total: UInt64 = 0
    for (bound, count) in zip(histogram.boundsMilli, histogram.counts) {
      total += count
      add(.count(total), [("le", MetricValue.milli(bound).text)], suffix: "_bucket")
    }
    add(.count(histogram.count), [("le", "+Inf")], suffix: "_bucket")
    add(.milli(histogram.sumMilli), suffix: "_sum")
    add(.count(histogram.count), suffix: "_count")
  }

  /// Names come from guests and peers: they must not end their label.
  private static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": result += "\\\\"
      case "\"": result += "\\\""
      case "\n": result += "\\n"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}

/// A number as Prometheus reads it, kept as an integer.
enum MetricValue: Equatable {
  case count(UInt64)
  /// Thousandths: milliseconds as seconds, per mille as ratio.
  case milli(UInt64)

  var text: String {
    switch self {
    case .count(let value): return "\(value)"
    case .milli(let value):
      let rest = value % 1000
      guard rest > 0 else { return "\(value / 1000)" }
      var digits = String("\(1000 + rest)".dropFirst())
      while digits.hasSuffix("0") { digits.removeLast() }
      return "\(value / 1000).\(digits)"
    }
  }
}

/// Values counted by size; bounds and values in thousandths.
struct MetricHistogram: Sendable, Equatable {
  let boundsMilli: [UInt64]
  /// Values up to each bound and above the one before.
  private(set) var counts: [UInt64]
  private(set) var count: UInt64 = 0
  private(set) var sumMilli: UInt64 = 0

  init(boundsMilli: [UInt64]) {
    self.boundsMilli = boundsMilli
    counts = Array(repeating: 0, count: boundsMilli.count)
  }

  mutating func add(_ milli: UInt64) {
    if let slot = boundsMilli.firstIndex(where: { milli <= $0 }) { counts[slot] += 1 }
    count += 1
    let (sum, overflow) = sumMilli.addingReportingOverflow(milli)
    sumMilli = overflow ? .max : sum
  }
}
