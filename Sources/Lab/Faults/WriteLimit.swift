import Glibc
import HostIO

/// A disk that takes no more, for chosen processes: no file of theirs grows beyond a size
/// (`RLIMIT_FSIZE`). A record that doesn't fit is written in part, as on a disk that fills up.
enum WriteLimit {
  /// - Parameter bytes: nil: no limit again.
  static func set(_ pids: [Int32], bytes: UInt64?) async throws {
    let limit = bytes.map(String.init) ?? "unlimited"
    for pid in pids {
      // The soft limit alone, so that it can be taken back.
      let result = try await Command.execute("prlimit", ["--pid", "\(pid)", "--fsize=\(limit):"])
      guard result.exit.isSuccess || kill(pid, 0) != 0 else {
        throw LabError("prlimit: \(result.output)")
      }
    }
  }

  /// How long the longest journal of an agent's is; 0: it has none.
  static func journalBytes(_ side: HostPair.Side, _ session: GuestSession) -> UInt64 {
    let folder = LabAgent.folder(side, session) + "/state/journal"
    let sizes = ProcFile.names(in: folder).compactMap {
      (try? SmallFile.readBytes("\(folder)/\($0)", bytesMax: 1 << 20))?.count
    }
    return UInt64(sizes.max() ?? 0)
  }
}
