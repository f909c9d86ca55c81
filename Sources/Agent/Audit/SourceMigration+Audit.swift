import Base
import FoundationEssentials
import HostIO

extension SourceMigration {
  /// Compares every RAM page of both sides while the guest is stopped (`--audit`, I1).
  ///
  /// A difference ends the migration: the guest goes on here, where its memory is right.
  func audit(_ setup: Setup, _ copy: Copy) async throws {
    guard let process = setup.vm.process?.identity else {
      throw Ending.failed("--audit needs the source's QEMU to be a process of this host")
    }
    let startedMs = MonotonicClock.nowMs
    let digests = try await GuestDigests.open(setup.monitor.client, pid: process.pid)
    let names = copy.relay.blockNames
    let link = setup.link
    try await Blocking.run {
      for name in names {
        guard let length = digests.length(of: name) else { continue }
        let pages = Page.count(bytes: length)
        for first in stride(from: 0, to: pages, by: GuestDigests.stepPages) {
          let count = min(GuestDigests.stepPages, pages - first)
          let part = try digests.digests(of: name, firstPage: UInt64(first), count: count)
          try link.send(.auditPages(block: name, firstPage: UInt64(first), digests: Data(part)))
        }
      }
      try link.send(.auditEnd)
    }
    let answer = try await nextWord(
      timeoutMs: Self.switchoverTimeoutMs, waitingFor: "the audit")
    // What the destination says doesn't come from a dead QEMU here: nobody has to look for one, and the guest waits.
    if let ending = Ending(answer) { throw AuditVerdict(ending) }
    guard case .audited(let compared, let differing, let examples) = answer else {
      throw AuditVerdict(
        .failed("\(request.destination) answered the audit with something else"))
    }
    note { state in
      state.record.audit = .init(
        pagesCompared: compared, pagesDiffering: differing,
        durationMs: MonotonicClock.nowMs - startedMs)
    }
    guard differing == 0 else {
      throw AuditVerdict(
        .failed(
          "audit: \(differing) of \(compared) pages differ, among them \(examples.joined(separator: ", "))"
        ))
    }
    guard compared > 0 else { throw AuditVerdict(.failed("audit: no page could be compared")) }
  }
}

/// The audit came to its end, and the destination must not go on.
struct AuditVerdict: Error {
  let ending: Ending
  init(_ ending: Ending) { self.ending = ending }
}
