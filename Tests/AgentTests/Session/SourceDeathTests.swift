import Testing

@testable import Agent

/// What is left of a guest whose QEMU died frozen at the source.
@Suite struct SourceDeathTests {
  @Test(
    arguments: [
      // In the middle of the stream: the guest was in that QEMU alone.
      (false, false, true, .lost(.stream)), (false, false, false, .lost(.stream)),
      (false, true, true, .lost(.stream)), (false, true, false, .lost(.stream)),
      // The agent has or maps all of the rest.
      (true, false, true, .survivable), (true, true, true, .survivable),
      // Pages are read out of the process: what was not read is gone, and a pull reads all of it later.
      (true, false, false, .undecided), (true, true, false, .lost(.memory)),
    ] as [(Bool, Bool, Bool, SourceDeath)])
  func itDependsOnWhereThePagesAre(
    hasEnded: Bool, pulls: Bool, outlives: Bool, expected: SourceDeath
  ) {
    #expect(
      SourceDeath(streamHasEnded: hasEnded, pulls: pulls, memoryOutlivesQEMU: outlives) == expected)
  }
}
