/// Reads Prometheus's text format strictly, as a server that scrapes it would.
struct MetricsParser {
  struct Mistake: Error { let line: Substring, what: String }
  struct Sample: Hashable { let name: String, labels: [String: String] }

  private(set) var kinds: [String: String] = [:]
  private(set) var values: [Sample: Double] = [:]

  init(_ text: String) throws {
    guard text.hasSuffix("\n") else {
      throw Mistake(line: text.suffix(20), what: "no last line end")
    }
    var helped = ""
    var current = ""
    for line in text.dropLast().split(separator: "\n", omittingEmptySubsequences: false) {
      func fail(_ what: String) -> Mistake { Mistake(line: line, what: what) }
      if line.hasPrefix("# HELP ") {
        let parts = line.split(separator: " ", maxSplits: 3)
        guard parts.count == 4, Self.isName(parts[2]) else { throw fail("HELP") }
        helped = String(parts[2])
      } else if line.hasPrefix("# TYPE ") {
        let parts = line.split(separator: " ")
        guard parts.count == 4, ["counter", "gauge", "histogram"].contains(parts[3]) else {
          throw fail("TYPE")
        }
        current = String(parts[2])
        guard current == helped, kinds[current] == nil else { throw fail("order") }
        kinds[current] = String(parts[3])
      } else {
        try sample(line, of: current)
      }
    }
  }

  private mutating func sample(_ line: Substring, of family: String) throws {
    func fail(_ what: String) -> Mistake { Mistake(line: line, what: what) }
    let name = line.prefix { $0 != "{" && $0 != " " }
    let suffixes = kinds[family] == "histogram" ? ["_bucket", "_sum", "_count"] : [""]
    guard Self.isName(name), suffixes.contains(where: { name == family + $0 }) else {
      throw fail("not of \(family)")
    }
    var rest = line.dropFirst(name.count)
    var labels: [String: String] = [:]
    if rest.hasPrefix("{") {
      repeat {
        rest = rest.dropFirst()
        let key = rest.prefix { $0 != "=" }
        guard Self.isName(key), rest.dropFirst(key.count).hasPrefix("=\"") else {
          throw fail("label")
        }
        rest = rest.dropFirst(key.count + 2)
        var value = ""
        while let next = rest.popFirst(), next != "\"" {
          guard next == "\\" else {
            value.append(next)
            continue
          }
          guard let escaped = rest.popFirst(), "\\\"n".contains(escaped) else {
            throw fail("escape")
          }
          value.append(escaped == "n" ? "\n" : escaped)
        }
        guard labels.updateValue(value, forKey: String(key)) == nil else { throw fail("twice") }
      } while rest.hasPrefix(",")
      guard rest.hasPrefix("}") else { throw fail("labels have no end") }
      rest = rest.dropFirst()
    }
    guard rest.hasPrefix(" "), let value = Double(rest.dropFirst()) else { throw fail("value") }
    let key = Sample(name: String(name), labels: labels)
    guard values.updateValue(value, forKey: key) == nil else { throw fail("series twice") }
  }

  func value(_ name: String, _ labels: [String: String] = [:]) -> Double? {
    values[Sample(name: name, labels: labels)]
  }

  private static func isName(_ text: Substring) -> Bool {
    guard let first = text.first, first.isLetter || first == "_" else { return false }
    return text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
  }
}
