import Testing

@testable import Agent

/// What an audit must have compared before it lets a migration go on.
@Suite struct AuditTallyTests {
  private var tally: AuditTally {
    var tally = AuditTally()
    for pages in [100, 28] as [UInt64] { tally.sent("pc.ram", pages: pages) }
    tally.sent("pc.bios", pages: 64)
    tally.cannotRead("vga.rom", pages: 16)
    return tally
  }

  @Test func everythingOrNothing() {
    #expect(tally.problem(.init(compared: 192, differing: 0)) == nil)
    let uncovered = tally.uncovered(.init(compared: 192, differing: 0))
    #expect(uncovered.blocks == ["vga.rom"] && uncovered.pages == 16)
    // A destination that compared some of it, or more than there is.
    for compared in [0, 1, 128, 191, 193, .max] as [UInt64] {
      let problem = tally.problem(.init(compared: compared, differing: 0))
      #expect(problem?.contains("192 had to be") == true, "\(compared)")
    }
  }

  @Test func whatAPullBringsIsLeftToIt() {
    #expect(tally.problem(.init(compared: 150, differing: 0, left: 42)) == nil)
    #expect(tally.problem(.init(compared: 0, differing: 0, left: 192)) == nil)
    #expect(tally.problem(.init(compared: 150, differing: 0, left: 41)) != nil)
    #expect(tally.problem(.init(compared: 193, differing: 0, left: .max)) != nil)
  }

  @Test func blocksThatTheDestinationCannotFindAreNamed() {
    let answer = AuditTally.Answer(
      compared: 128, differing: 0, uncovered: ["pc.bios", "never heard of"])
    #expect(tally.problem(answer) == nil)
    let uncovered = tally.uncovered(answer)
    #expect(uncovered.blocks == ["pc.bios", "vga.rom"] && uncovered.pages == 80)
    // To find nothing at all is no audit.
    let blind = AuditTally.Answer(
      compared: 0, differing: 0, uncovered: ["pc.bios", "pc.ram"])
    #expect(tally.problem(blind) == "audit: no page could be compared")
    #expect(AuditTally().problem(.init(compared: 0, differing: 0)) != nil)
  }

  @Test func differencesComeFirst() {
    let answer = AuditTally.Answer(compared: 5, differing: 1, examples: ["pc.ram+0x1000"])
    #expect(tally.problem(answer)?.contains("pc.ram+0x1000") == true)
  }
}
