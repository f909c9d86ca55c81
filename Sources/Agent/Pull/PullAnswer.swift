import HostIO
import Logging
import Strategy
import Wire

/// Answers a source that offers pages for a guest which lacks none any more: its last word was lost.
enum PullAnswer {
  static func serve(_ hello: Hello, _ socket: any ByteConnection, agent: MigrationAgent) async {
    let path =
      agent.configuration.journalDirectory + "/" + hello.migration.description + Journal.suffix
    let records = Journal.exists(at: path) ? (try? Journal.records(at: path)) ?? [] : []
    guard DestinationStory(records).facts.outcome == .running else {
      return PeerConnection.welcome(socket, refusal: "nobody takes pages of this migration now")
    }
    PeerConnection.welcome(socket)
    // Lane 0 hears it; the others are closed by the source then.
    guard hello.lane == 0 else { return }
    _ = try? await Blocking.run {
      try PullLane(socket).send(PullDone(placedPages: 0))
      socket.finish()
    }
  }
}
