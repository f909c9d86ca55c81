import HostIO
import Logging
import Wire

// Connections of a migration's source beside its first one, for which no session vouches.
extension MigrationAgent {
  /// Why the host behind `socket` may not speak for the source of the migration that it names; nil when it may. Of a
  /// migration that nothing is known of here there is nothing to protect.
  nonisolated func refusal(of hello: Hello, _ socket: any ByteConnection) async -> String? {
    let known: [String]?
    if let migration = await incomingMigration(hello.migration) {
      known = migration.peerNames
    } else {
      known = journaledPeerNames(of: hello.migration)
    }
    guard let refusal = SourceIdentity(names: known).refusal(of: PeerSecurity.peerNames(of: socket))
    else { return nil }
    logger.warning(
      "connection refused",
      metadata: [
        "migration": "\(hello.migration)", "peer": "\(socket.peer)", "error": "\(refusal)",
      ])
    return refusal
  }

  private nonisolated func journaledPeerNames(of id: MigrationID) -> [String]? {
    let path = configuration.journalDirectory + "/" + id.description + Journal.suffix
    guard Journal.exists(at: path) else { return nil }
    let records: [JournalRecord]
    do { records = try Journal.records(at: path) } catch {
      records = (error as? JournalDamage)?.intact ?? []
    }
    return DestinationStory(records).start?.peerNames
  }
}
