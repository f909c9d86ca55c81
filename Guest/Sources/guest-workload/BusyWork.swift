/// Work between writes, so that a writer is as fast as its processor and no faster: who takes half of its processor
/// takes half of its writes. A writer that sleeps between writes instead catches up, and shows nothing of that.
struct BusyWork {
  /// Steps of one unit.
  private static let steps = 256

  /// Units after each write.
  private var unitsPerWrite = 0.0
  private var owed = 0.0
  private var state: UInt64 = 0x9E37_79B9_7F4A_7C15

  /// Finds out how long a write takes here, and how much work makes up the rest.
  init(writesPerSecond: Int, write: () -> Void) {
    let writeNs = Self.nanosecondsEach(128, write)
    let unitNs = Self.nanosecondsEach(4096) { unit() }
    let wantedNs = 1_000_000_000 / Double(max(writesPerSecond, 1))
    unitsPerWrite = max(wantedNs - writeNs, 0) / max(unitNs, 1)
  }

  /// What follows a write.
  mutating func afterWrite() {
    owed += unitsPerWrite
    while owed >= 1 {
      unit()
      owed -= 1
    }
  }

  /// Xorshift (Marsaglia 2003): each step needs the one before.
  private mutating func unit() {
    for _ in 0..<Self.steps {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
    }
    // Never so, which only we know: the steps have to be done.
    if state == 0 { emit("ERR xorshift came to nothing\n") }
  }

  /// What one of `count` takes on a processor that is free: the least of many rounds. The first ones are slower, for an
  /// emulator translates them, and others want processors as well.
  private static func nanosecondsEach(_ count: Int, _ work: () -> Void) -> Double {
    var least = UInt64.max
    for _ in 0..<24 {
      let start = monotonicNs()
      for _ in 0..<count { work() }
      least = min(least, monotonicNs() - start)
    }
    return Double(least) / Double(count)
  }
}
