import Agent
import Testing

@testable import Lab

@Suite struct ResultTableTests {
  private func trial(_ method: String, _ adjust: (inout Trial) -> Void = { _ in }) -> Trial {
    var record = MigrationRecord(outcome: .completed)
    record.method = method
    record.strategy = "precopy"
    record.totalMs = 5200
    record.guest = .init(heartbeats: 900, errors: 0)
    var trial = Trial(record: record)
    trial.scansAfter = 2
    adjust(&trial)
    return trial
  }

  @Test func sideBySide() {
    let lines = ResultTable.lines([
      trial("qemu"),
      trial("godwit") {
        $0.record.pageSource = "inline"
        $0.record.audit = .init(pagesCompared: 131_072, pagesDiffering: 0)
        $0.brokenConnections = 0
      },
    ])
    #expect(
      lines[0].contains("QEMU alone (precopy)")
        && lines[0].contains("Godwit (precopy, inline, audited)"))
    let audit = lines.first { $0.contains("audit of") }
    #expect(audit?.contains("not measured") == true && audit?.contains("131072 equal") == true)
    #expect(lines.first { $0.contains("self-check") }?.contains("intact") == true)
  }

  @Test func damageIsSaid() {
    let lines = ResultTable.lines([trial("godwit") { $0.damage = ["3 errors"] }])
    #expect(lines.last == "Godwit (precopy): NOT INTACT: 3 errors")
  }

  @Test func whatCountsAsGood() {
    #expect(trial("qemu").isGood)
    #expect(!trial("godwit") { $0.damage = ["x"] }.isGood)
    #expect(!trial("godwit") { $0.record.outcome = .failed }.isGood)
    // QEMU alone may not converge: that is a finding, not a failure of the experiment.
    #expect(trial("qemu") { $0.record.outcome = .failed }.isGood)
  }

  @Test func repeatedTrialsShareAColumn() {
    let trials = [4000, 6000, 5000].map { (ms: UInt64) in
      trial("godwit") { $0.record.totalMs = ms }
    }
    let lines = ResultTable.lines(trials)
    #expect(lines.first { $0.contains("total time") }?.contains("5 s (at most 6 s)") == true)
    #expect(lines.first { $0.contains("outcome") }?.contains("3 of 3 completed") == true)
    #expect(lines.first { $0.contains("self-check") }?.contains("3 of 3 intact") == true)
  }

  @Test func godwitIsComparedWithoutTheAuditAndProvedWithIt() {
    var options = LabOptions()
    #expect(options.plans.map(\.label) == ["q0", "g1", "a1"])
    options.methods = [.godwit]
    #expect(options.plans.map(\.label) == ["a0"])
    options.audit = false
    #expect(options.plans.map(\.label) == ["g0"])
  }

  @Test func nothing() { #expect(ResultTable.lines([]) == []) }
}
