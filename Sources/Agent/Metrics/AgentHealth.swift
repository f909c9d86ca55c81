import HostIO
import NIOHTTP1

/// What the metrics port answers, path by path.
struct AgentHealth: Sendable {
  let agent: MigrationAgent
  let startedAtSeconds = MonotonicClock.wallSeconds

  func answer(_ path: String) async -> MetricsAnswer {
    switch path {
    case "/metrics":
      var answer = MetricsAnswer(.ok, await metrics.text)
      answer.contentType = MetricsText.contentType
      return answer
    case "/healthz":
      // Answered by the actor that runs the migrations: one that is stuck does not say so.
      _ = await agent.counts
      return MetricsAnswer(.ok, "ok\n")
    case "/readyz":
      if await agent.isDraining {
        return MetricsAnswer(.serviceUnavailable, "the agent is shutting down\n")
      }
      let (configuration, counts) = (agent.configuration, await agent.counts)
      // Full is not unready: a probe must not restart an agent for being busy.
      let outgoing = "\(counts.outgoing) of \(configuration.outgoingMax) migrations out"
      let incoming = "\(counts.incoming) of \(configuration.incomingMax) in"
      return MetricsAnswer(.ok, "ready: \(outgoing), \(incoming)\n")
    default: return MetricsAnswer(.notFound, "try /metrics, /healthz or /readyz\n")
    }
  }

  private var metrics: AgentMetrics {
    get async {
      let snapshot = await agent.snapshot
      return AgentMetrics(
        version: GodwitVersion.current.godwit, nowSeconds: MonotonicClock.wallSeconds,
        startedAtSeconds: startedAtSeconds, isReady: !snapshot.isDraining,
        configuration: agent.configuration, counters: snapshot.counters,
        running: snapshot.running)
    }
  }
}
