public import ArgumentParser
import Base
public import Strategy

/// What a migration has to keep to: of real ones, of plans and of simulations.
struct ConstraintOptions: ParsableArguments {
  static let downtimeLimitMs: UInt64 = 300

  @Option(
    help: ArgumentHelp(
      "Longest time until the guest runs at the destination, as 60s (default: no bound).",
      valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var within: UInt64?
  @Option(
    help: ArgumentHelp(
      "When that time is about to run out: stop the guest and move it, postcopy, or abort.",
      valueName: "action"))
  var atDeadline = DeadlineAction.stop
  @Option(
    help: ArgumentHelp(
      "Longest pause of the guest to aim for, as 300ms (default: 300ms).", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var downtime: UInt64?
  @Option(
    name: [.long, .customLong("downtime-ceiling")],
    help: ArgumentHelp(
      "Pause up to which a strategy may raise that to end at all (default: ten times as long).",
      valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var maxDowntime: UInt64?
  @Option(
    help: ArgumentHelp(
      "Most of its processor time that the guest may be denied, 0 to 99 (default: 0).",
      valueName: "percent"))
  var maxThrottle: UInt64 = 0
  @Option(
    name: [.long, .customLong("throttle-form")],
    help: ArgumentHelp(
      "How: at-once (fewer cores), stepwise (one core after the other), or freeze (a quota in a closed loop).",
      valueName: "form"))
  var throttle = ThrottleForm.stepwise

  func validate() throws {
    guard maxThrottle <= 99 else { throw ValidationError("--max-throttle takes 0 to 99") }
  }

  var constraints: MigrationConstraints {
    MigrationConstraints(
      withinMs: within, downtimeLimitMs: downtime ?? Self.downtimeLimitMs,
      downtimeCeilingMs: maxDowntime, atDeadline: atDeadline, maxThrottlePercent: maxThrottle,
      throttleForm: throttle)
  }
}

extension DeadlineAction: ExpressibleByArgument {}
extension ThrottleForm: ExpressibleByArgument {}
