/// What an audit has to compare, and whether it has. Pure.
struct AuditTally: Sendable, Equatable {
  /// The destination's answer.
  struct Answer: Sendable, Equatable {
    var compared, differing: UInt64
    var examples: [String] = []
    /// Pages that a pull brings, and that are compared as they come.
    var left: UInt64 = 0
    /// RAM blocks whose place in the destination's QEMU is not known.
    var uncovered: [String] = []
  }

  /// Pages whose digests were sent, by RAM block.
  private var sent: [String: UInt64] = [:]
  /// Pages of RAM blocks whose place in the source's QEMU is not known.
  private var unread: [String: UInt64] = [:]

  mutating func sent(_ block: String, pages: UInt64) { sent[block, default: 0] += pages }
  mutating func cannotRead(_ block: String, pages: UInt64) { unread[block] = pages }

  /// RAM blocks that could not be compared, sorted, and their pages.
  func uncovered(_ answer: Answer) -> (blocks: [String], pages: UInt64) {
    var all = unread
    for block in answer.uncovered { if let pages = sent[block] { all[block] = pages } }
    return (all.keys.sorted(), all.values.reduce(0, +))
  }

  /// Why the destination must not go on; nil when all that could be compared was, and is the same.
  func problem(_ answer: Answer) -> String? {
    guard answer.differing == 0 else {
      let examples = answer.examples.joined(separator: ", ")
      return "audit: \(answer.differing) of \(answer.compared) pages differ, among them \(examples)"
    }
    let missing = Set(answer.uncovered)
    let expected = sent.reduce(UInt64(0)) { $0 + (missing.contains($1.key) ? 0 : $1.value) }
    let (reached, overflows) = answer.compared.addingReportingOverflow(answer.left)
    guard !overflows, reached == expected else {
      return "audit: \(answer.compared) pages were compared where \(expected) had to be"
    }
    guard expected > 0 else { return "audit: no page could be compared" }
    return nil
  }
}
