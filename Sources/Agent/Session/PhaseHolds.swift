import Base
import Glibc

/// Fault injection for tests: how long an agent stays at the start of a phase, so that something can
/// be killed exactly there.
///
/// `GODWIT_HOLD_PHASE=switchover=2s,commit=500ms`. Without the variable nothing is held.
struct PhaseHolds: Sendable {
  static let variable = "GODWIT_HOLD_PHASE"

  private let holdMs: [MigrationPhase: UInt64]

  static func fromEnvironment() -> PhaseHolds {
    // SAFETY: getenv's string is copied at once; nothing in the agent changes its environment.
    guard let raw = unsafe getenv(variable) else { return PhaseHolds(parsing: "") }
    return PhaseHolds(parsing: unsafe String(cString: raw))
  }

  /// Parts that do not read as `phase=duration` are ignored.
  init(parsing text: String) {
    var holds: [MigrationPhase: UInt64] = [:]
    for part in text.split(separator: ",") {
      let pair = part.split(separator: "=", maxSplits: 1)
      guard pair.count == 2, let phase = MigrationPhase(rawValue: String(pair[0])),
        let ms = Milliseconds.parse(String(pair[1]))
      else { continue }
      holds[phase] = ms
    }
    holdMs = holds
  }

  func isHeld(_ phase: MigrationPhase) -> Bool { holdMs[phase] != nil }

  func hold(_ phase: MigrationPhase) async throws {
    guard let ms = holdMs[phase] else { return }
    try await Task.sleep(nanoseconds: ms * 1_000_000)
  }
}
