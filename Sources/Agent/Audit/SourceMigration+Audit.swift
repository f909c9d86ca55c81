import Base
import FoundationEssentials
import HostIO
import Logging
import QEMUStream

extension SourceMigration {
  /// Compares the guest's RAM on both sides, page for page, while the guest is stopped (`--audit`, I1). RAM blocks that
  /// one of the sides can't find in its QEMU are left out, and counted in the record.
  ///
  /// A difference, or a page that should have been compared and was not, ends the migration: the guest goes on here,
  /// where its memory is right.
  func audit(_ setup: Setup, _ copy: Copy) async throws {
    guard let process = setup.vm.process?.identity else {
      throw Ending.failed("--audit needs the source's QEMU to be a process of this host")
    }
    let startedMs = MonotonicClock.nowMs
    let digests = try await GuestDigests.open(setup.monitor.client, pid: process.pid)
    let blocks = copy.relay.blocks
    let link = setup.link
    let tally = try await Blocking.run {
      var tally = AuditTally()
      for block in blocks {
        guard let length = digests.length(of: block.name) else {
          tally.cannotRead(block.name, pages: UInt64(block.pageCount))
          continue
        }
        let pages = Page.count(bytes: length)
        for first in stride(from: 0, to: pages, by: GuestDigests.stepPages) {
          let count = min(GuestDigests.stepPages, pages - first)
          let part = try digests.digests(of: block.name, firstPage: UInt64(first), count: count)
          try link.send(
            .auditPages(block: block.name, firstPage: UInt64(first), digests: Data(part)))
          tally.sent(block.name, pages: UInt64(count))
        }
      }
      try link.send(.auditEnd)
      return tally
    }
    let word = try await nextWord(
      timeoutMs: Self.switchoverTimeoutMs, waitingFor: "the audit")
    // What the destination says doesn't come from a dead QEMU here: nobody has to look for one, and the guest waits.
    if let ending = Ending(word) { throw AuditVerdict(ending) }
    guard case .audited(let compared, let differing, let examples, let left, let uncovered) = word
    else {
      throw AuditVerdict(
        .failed("\(request.destination) answered the audit with something else"))
    }
    let pulls = copy.relay.ledger.state.read { $0.pulls }
    let answer = AuditTally.Answer(
      compared: compared, differing: differing, examples: examples, left: pulls ? left ?? 0 : 0,
      uncovered: uncovered ?? [])
    let missed = tally.uncovered(answer)
    note { state in
      state.auditLeftPages = answer.left
      state.record.audit = .init(
        pagesCompared: compared, pagesDiffering: differing,
        durationMs: MonotonicClock.nowMs - startedMs, pagesUncovered: missed.pages)
    }
    if !missed.blocks.isEmpty {
      logger.warning(
        "RAM that the audit could not compare",
        metadata: [
          "blocks": "\(missed.blocks.joined(separator: ", "))", "pages": "\(missed.pages)",
        ])
    }
    if let problem = tally.problem(answer) { throw AuditVerdict(.failed(problem)) }
  }
}

/// The audit came to its end, and the destination must not go on.
struct AuditVerdict: Error {
  let ending: Ending
  init(_ ending: Ending) { self.ending = ending }
}
