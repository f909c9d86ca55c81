import DiskStrategy
import Testing

@Suite struct MoveMachineTests {
  private func sample(
    _ needed: UInt64, round: UInt64 = 0, rate: UInt64? = 1 << 20, nowMs: UInt64 = 0,
    connected: Bool = true
  ) -> MoveSample {
    MoveSample(
      nowMs: nowMs, neededBytes: needed, diskBytes: 1 << 30, roundCount: round,
      bytesPerSecond: rate, isConnected: connected)
  }

  @Test func precopyEndsWhenTheRestIsShort() {
    var machine = MoveMachine(.precopy, pauseLimitMs: 1000)
    #expect(machine.look(sample(1 << 30)) == MoveDecision())
    #expect(!machine.look(sample(64 << 20, round: 1)).freezes)
    #expect(!machine.look(sample(1 << 19, round: 2, rate: nil)).freezes)
    #expect(!machine.look(sample(1 << 19, round: 2, connected: false)).freezes)
    let end = machine.look(sample(1 << 19, round: 2))
    #expect(end.freezes && end.writes == .note)
    // It took too long: from now on both sides.
    machine.freezeFailed(nowMs: 100)
    let after = machine.look(sample(0, round: 2, nowMs: 500))
    #expect(!after.freezes && after.writes == .mirror)
    #expect(machine.look(sample(0, round: 2, nowMs: 1100)).freezes)
  }

  /// What the destination has already is no matter of the machine's.
  @Test(arguments: [MoveMethod.snapmig, .incremental]) func otherSourcesAreAsPrecopy(
    method: MoveMethod
  ) {
    var (precopy, other) = (
      MoveMachine(.precopy, pauseLimitMs: 300), MoveMachine(method, pauseLimitMs: 300)
    )
    for round in 0...9 as ClosedRange<UInt64> {
      let now = sample((100 << 20) - (round << 20), round: round, nowMs: round * 100)
      let (one, two) = (precopy.look(now), other.look(now))
      #expect(one == two && (one.writes == .mirror) == (round >= 4), "\(round)")
    }
  }

  @Test func precopyThatDoesntShrinkMirrors() {
    var machine = MoveMachine(.precopy, pauseLimitMs: 100)
    for round in 1...3 as ClosedRange<UInt64> {
      #expect(machine.look(sample(100 << 20, round: round)).writes == .note)
    }
    #expect(machine.look(sample(90 << 20, round: 4)).writes == .mirror)
    var shrinking = MoveMachine(.precopy, pauseLimitMs: 100)
    for round in 1...7 as ClosedRange<UInt64> {
      #expect(shrinking.look(sample((100 << 20) >> round, round: round)).writes == .note)
    }
  }

  @Test func mirrorEndsWhenEverythingIsThere() {
    var machine = MoveMachine(.mirror, pauseLimitMs: 300)
    #expect(machine.look(sample(4096)).writes == .mirror)
    #expect(!machine.look(sample(4096)).freezes)
    #expect(machine.look(sample(0)).freezes)
  }

  @Test func iofollowForwardsAndThenMirrors() {
    var machine = MoveMachine(.iofollow, pauseLimitMs: 300)
    let first = machine.look(sample(1 << 30))
    #expect(first.writes == .forward && first.forwardsReads && first.followsGuest)
    #expect(machine.look(sample(1 << 29, round: 1)).writes == .forward)
    #expect(machine.look(sample(1 << 29, round: 2)).writes == .mirror)
    var little = MoveMachine(.iofollow, pauseLimitMs: 300)
    #expect(little.look(sample(1 << 20, round: 1)).writes == .mirror)
    #expect(little.look(sample(0, round: 1)).freezes)
  }

  /// First the original alone; then the surrogate, while what the guest does is sent from memory.
  @Test func waioSendsTheSurrogateLast() {
    var machine = MoveMachine(.waio, pauseLimitMs: 800)
    let first = machine.look(sample(1 << 30))
    #expect(first.defersWritten && first.yieldsToGuest && first.writes == .note)
    #expect(!first.forwardsReads && !first.readsTail)
    // What is left is the surrogate's, however little it is beside the pace of the original.
    #expect(!machine.look(sample(4096)).freezes)
    let change = machine.look(sample(4096, round: 1))
    #expect(!change.freezes && change.readsTail && !change.defersWritten)
    #expect(change.writes == .forward && change.forwardsReads && change.yieldsToGuest)
    // A 4 KiB request isn't made one of sixteen, each elsewhere in the log.
    #expect(!change.widensReads)
    #expect(!machine.look(sample(4096, round: 1, rate: nil)).freezes)
    // An eighth of the pause.
    #expect(!machine.look(sample((1 << 20) / 8, round: 1)).freezes)
    #expect(machine.look(sample(1 << 16, round: 1)).freezes)
    machine.hold()
    let held = machine.look(sample(1 << 20, round: 1))
    #expect(held.writes == .mirror && held.readsTail && held.forwardsReads && !held.freezes)
    #expect(machine.look(sample(0, round: 1)).freezes)
  }

  /// A disk of which nothing is needed any more has no first round.
  @Test func waioEndsWithNothingLeft() {
    var machine = MoveMachine(.waio, pauseLimitMs: 300)
    #expect(machine.look(sample(0, rate: nil)).freezes)
  }

  @Test func aMeterTellsPaceAndEnd() {
    var meter = MoveMeter()
    #expect(meter.bytesPerSecond == nil && meter.etaMs == nil)
    for look in 0...10 as ClosedRange<UInt64> {
      meter.note(
        nowMs: look * 500, sentBytes: look * 500_000, neededBytes: 8_000_000 - look * 400_000)
    }
    #expect(meter.bytesPerSecond == 1_000_000)
    #expect(meter.etaMs == 5000)
    meter.note(nowMs: 6000, sentBytes: 6_000_000, neededBytes: 9_000_000)
    #expect(meter.etaMs == nil)
    meter.forget()
    #expect(meter.bytesPerSecond == nil)
  }
}
