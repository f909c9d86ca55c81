import Base
import HostIO
import Logging
import QMP
import Strategy
import Wire

// A guest that runs here before its memory is here.
extension DestinationMigration {
  static let pullPollMs: UInt64 = 200

  /// Whether this QEMU and this host can wait for pages; QEMU is set up for it if so.
  func preparePull(_ qemu: IncomingQEMU, _ facts: VMFacts) async -> Bool {
    let pages = UInt64(Page.count(bytes: facts.ramBytes))
    guard PullEntrance.byteCount(pages: pages) <= configuration.memoryLimitBytes else {
      return false
    }
    do {
      let backends = try await SharedMemoryBackend.locate(
        qemu.monitor.client, pid: qemu.identity.pid)
      // Larger pages have to be placed whole.
      guard
        try backends.allSatisfy({ try SharedFile.blockSize(path: $0.path) == UInt64(Page.size) })
      else {
        return false
      }
      try await qemu.monitor.client.migrateSetCapabilities([
        "postcopy-ram": true, "return-path": true,
      ])
      try await MonitorKeeper.start(
        IncomingQEMU.keptMonitorPath(qemu.monitorPath), logPath: qemu.logPath)
      return true
    } catch {
      logger.notice("no post-copy here", metadata: ["error": "\(error)"])
      return false
    }
  }

  /// PREPARED without all of the memory: what a later agent goes on from is written down first.
  func notePull(_ undo: DestinationUndo) async throws {
    guard let pull = undo.relay?.pull else { return }
    try await undo.journal?.append(
      .pulling(.init(blocks: pull.blocks, sectionID: pull.sectionID)))
  }

  /// Waits until QEMU has every page. The guest runs; whoever asks is told so.
  func awaitPull(_ undo: inout DestinationUndo) async -> DestinationCommitMachine.Input {
    guard let qemu = undo.qemu, let pull = undo.relay?.pull else { return .failed }
    if let failure = undo.pullFailure, pull.shutCode == nil {
      logger.error("pages cannot be given to QEMU", metadata: ["error": "\(failure)"])
      return qemu.identity.isAlive ? .failed : .qemuGone
    }
    while true {
      switch pull.shutCode {
      case nil: break
      case 0:
        if await hasCompleted(qemu) {
          state.update { state in
            state.progress.phase = .done
            (state.progress.progressPermille, state.progress.etaMs) = (1000, 0)
          }
          return .performed
        }
      case let code?:
        logger.error("QEMU gave the pull up", metadata: ["code": "\(code)"])
        return qemu.identity.isAlive ? .failed : .qemuGone
      }
      state.update { state in
        state.note(missingPages: UInt64(pull.missingCount), nowMs: MonotonicClock.nowMs)
      }
      guard let event = await mailbox.take(timeoutMs: Self.pullPollMs) else { continue }
      switch event {
      case .verdict(_, let answer): answer(.running)
      // What is said now lets go of the pages at the source.
      case .qemuGone:
        if !qemu.identity.isAlive { return .qemuGone }
      case .relay(.failed(let failure)):
        logger.error(
          "pages cannot be given to QEMU", metadata: ["error": "\(failure)"])
        return qemu.identity.isAlive ? .failed : .qemuGone
      case .relay(.pullConnection(let isUp)):
        state.update { $0.note(isConnected: isUp, nowMs: MonotonicClock.nowMs) }
        if !isUp {
          logger.warning("the guest's missing pages wait for the source, whose connection broke")
        }
      case .relay, .peer: break
      }
    }
  }

  private func hasCompleted(_ qemu: IncomingQEMU) async -> Bool {
    guard let info = try? await qemu.monitor.client.queryMigrate(timeoutMs: 5000) else {
      return false
    }
    return info.status == .completed
  }
}

extension DestinationMigration.State {
  mutating func note(isConnected: Bool, nowMs: UInt64) {
    progress.isConnected = isConnected
    wait.note(isConnected: isConnected, nowMs: nowMs)
  }

  /// The source has not said how long a pull takes: this side knows best what is missing.
  mutating func note(missingPages: UInt64, nowMs: UInt64) {
    progress.remainingBytes = missingPages << UInt64(Page.shift)
    let first = missingAtFirst ?? missingPages
    missingAtFirst = first
    let given = first.minusFloored(missingPages)
    pullEta.note(
      .init(
        given: given, crossed: given, left: missingPages, isConnected: progress.isConnected),
      nowMs: nowMs)
    (progress.etaMs, progress.etaLowMs, progress.etaHighMs) = (pullEta.etaMs, nil, nil)
  }
}
