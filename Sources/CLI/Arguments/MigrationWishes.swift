import Agent
import ArgumentParser
import Base

/// What the user asks of a migration: the same for `migrate` and for `plan`.
struct MigrationWishes: ParsableArguments {
  @OptionGroup var limits: ConstraintOptions
  @Option(
    help: ArgumentHelp(
      "Cap on the network, as 1Gbit or 100MiB/s (default: none).", valueName: "rate"),
    transform: UnitArguments.rate)
  var bandwidth: ByteRate?

  func apply(to request: inout MigrationRequest) {
    (request.withinMs, request.atDeadline) = (limits.within, limits.atDeadline)
    request.downtimeCeilingMs = limits.maxDowntime
    (request.maxThrottlePercent, request.throttleForm) = (limits.maxThrottle, limits.throttle)
    request.bandwidthBytesPerSecond = bandwidth?.bytesPerSecond
    if let downtime = limits.downtime { request.downtimeLimitMs = downtime }
  }
}
