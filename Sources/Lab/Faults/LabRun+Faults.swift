import Agent
import Base
import HostIO

extension LabRun {
  /// Breaks migrations of fresh guests, one plan after the other; `options.repeatCount` rounds.
  ///
  /// The moment within the phase is drawn from `seed`, so that rounds explore it.
  public func runFaults(
    _ plans: [FaultPlan], seed: UInt64, each: (FaultResult) async -> Void
  ) async throws {
    let needsHosts = plans.contains { $0.victim.needsNamespaces }
    if needsHosts, let reason = await HostPair.whyNoNamespaces() {
      throw LabError("faults of the network need network namespaces: \(reason)")
    }
    var random = SplitMix64(seed: seed)
    try await withHosts { commandLine, hosts, folder in
      for round in 0..<options.repeatCount {
        for (number, plan) in plans.enumerated() {
          try Task.checkCancellation()
          var options = options
          if plan.phase == .disks { options.movesDisk = true }
          let session = try await GuestSession.start(
            options: options, commandLine: commandLine, hosts: hosts, folder: folder,
            label: "\(round)f\(number)")
          let trial = FaultTrial(
            plan: plan, killAfterMs: UInt64.random(in: 0...FaultTrial.holdMs + 200, using: &random),
            session: session, observer: observer)
          do {
            let result = try await trial.run()
            await session.end()
            await each(result)
          } catch {
            await session.end()
            throw error
          }
        }
      }
    }
  }
}
