import Simulator

/// What must hold for a file that claims to be a trace, whatever its bytes are: it is refused, or it is
/// written again to the same bytes, and makes a guest of the size it states that runs.
public enum TraceHarness {
  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    guard let trace = try? DirtyTrace(parsing: data) else { return nil }
    guard [UInt8](trace.text.utf8) == data else { return "what was read is written differently" }
    let guest = GuestModel(replaying: trace)
    guard abs(guest.ramPages - Double(trace.ramPages)) <= 1 + Double(trace.ramPages) * 1e-9 else {
      return "\(trace.ramPages) pages became \(guest.ramPages)"
    }
    let isSane = guest.groups.allSatisfy { group in
      group.pages >= 0 && group.writesPerSecond.isFinite && group.writesPerSecond >= 0
    }
    return isSane ? nil : "a group writes at no rate"
  }
}
