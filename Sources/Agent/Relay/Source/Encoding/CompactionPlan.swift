import Compaction
import HostIO

/// How a migration's pages are made smaller.
struct CompactionPlan: Sendable {
  /// Threads that do it, at least 1.
  let threads: Int
  /// Always the same effort; nil: what pays.
  let effort: Effort?
  /// Names of RAM blocks that both ends read directly: pages of them may be sent as references to what the
  /// destination has.
  var readableBlocks: Set<String> = []
  /// Memory for what is remembered of pages that were sent, in bytes.
  var memoryBytes: UInt64 = 0
  /// Names of RAM blocks that pages can be read from again here, should the destination ask for one.
  var answerableBlocks: Set<String> = []
  /// Images that the destination has, too; nil: none.
  var disks: DiskDirectory?
  /// Guests that move together with this one; nil: it goes alone.
  var gang: GangMember?
  /// Names of RAM blocks whose memory the destination can read for the others of the gang.
  var gangBlocks: Set<String> = []

  /// Nil: not at all.
  init?(_ choice: MigrationRequest.CompactionChoice, threads: Int) {
    switch choice {
    case .off: return nil
    case .auto: effort = nil
    case .lz4: effort = .lz4
    case .zstd: effort = .zstd1
    }
    self.threads = max(threads, 1)
  }
}

extension AgentConfiguration {
  /// More are not used unless the operator says so: one link takes no more.
  private static let compactionThreadsMax = 8

  /// Threads for one migration: as the operator says, or half of the processors.
  var compactionThreadCount: Int {
    compactionThreads ?? min(max(CPUSet.processorCount / 2, 1), Self.compactionThreadsMax)
  }
}
