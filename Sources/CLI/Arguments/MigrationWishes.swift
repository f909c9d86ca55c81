import Agent
import ArgumentParser
import Base
import Strategy

/// What the user asks of a migration: the same for `migrate` and for `plan`.
struct MigrationWishes: ParsableArguments {
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
      "Cap on the network, as 1Gbit or 100MiB/s (default: none).", valueName: "rate"),
    transform: UnitArguments.rate)
  var bandwidth: ByteRate?
  @Option(
    help: ArgumentHelp(
      "Longest pause of the guest to aim for, as 300ms (default: 300ms).", valueName: "duration"),
    transform: UnitArguments.milliseconds)
  var downtime: UInt64?
  @Option(
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
    help: ArgumentHelp(
      "How: at-once (fewer cores), stepwise (one core after the other), or freeze (a quota in a closed loop).",
      valueName: "form"))
  var throttle = ThrottleForm.stepwise

  func apply(to request: inout MigrationRequest) {
    (request.withinMs, request.atDeadline) = (within, atDeadline)
    request.downtimeCeilingMs = maxDowntime
    (request.maxThrottlePercent, request.throttleForm) = (maxThrottle, throttle)
    request.bandwidthBytesPerSecond = bandwidth?.bytesPerSecond
    if let downtime { request.downtimeLimitMs = downtime }
  }
}
