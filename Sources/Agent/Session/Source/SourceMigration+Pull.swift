import Base
import HostIO
import Logging
import QEMUStream
import Strategy
import Wire

// A guest that moves before its memory: this side keeps it, and gives pages until none is missing.
extension SourceMigration {
  /// How often progress is told while pages are given.
  static let pullReportIntervalMs: UInt64 = 500

  /// Whether the guest may move before its memory: everything of it can be read here once it has stopped.
  func openStoppedMemory(_ setup: Setup, _ copy: Copy) async -> Bool {
    guard setup.mayPull, let process = setup.vm.process else { return false }
    do {
      let memory = try await StoppedMemory.open(
        copy.relay.blocks, shared: copy.relay.shared, setup.monitor.client, pid: process.pid)
      note { $0.stoppedMemory = memory }
      return true
    } catch {
      logger.warning(
        "the guest cannot move before its memory", metadata: ["error": "\(error)"])
      return false
    }
  }

  /// Opens the connections that pages will be asked for over, while the guest still runs, and writes down
  /// that they will be. False: that fails, and the guest is stopped and moved with all of its memory.
  func beginPull(_ copy: Copy) async -> Bool {
    guard let memory = state.read({ $0.stoppedMemory }) else { return false }
    let dial = copy.recovery.dial
    var identifier = copy.identifier
    identifier?.blocks = copy.relay.blocks
    let (ledger, saysHeat) = (copy.relay.ledger, copy.saysHeat)
    let server = PullServer(
      memory: memory, identifier: identifier, packing: copy.pullPacking,
      pacer: PullPacer(
        bandwidth: request.bandwidthBytesPerSecond.flatMap { ByteRate(bytesPerSecond: $0) },
        share: share),
      heat: {
        saysHeat ? ledger.state.read { $0.ledger.map { PullHeat.frames(of: $0) } ?? [] } : []
      },
      laneCount: UInt16(clamping: request.laneCount),
      // The guest runs at the destination, and nowhere else ever: there is no time to give up after.
      recovery: LaneRecovery(patienceMs: { .max }, dial: dial),
      bytesWritten: copy.relay.bytesWritten
    ) { [mailbox, state] event in
      // Known before the commit, even when the mailbox is not read until then.
      if case .failed(let failure) = event { state.update { $0.pullEnd = .failed(failure) } }
      mailbox.put(.pull(event))
    }
    do {
      try await Blocking.run { try server.connect() }
      try await copy.journal.append(
        .pulling(
          .init(
            blocks: copy.relay.blocks, sectionID: copy.relay.sectionID,
            packs: copy.pullPacking == nil ? nil : true,
            bandwidthBytesPerSecond: request.bandwidthBytesPerSecond)))
      // A pull that is to be broken somewhere must not be over by then.
      if holds.isHeld(.pull) { server.setPrefetching(false) }
      server.start()
      note { $0.pullServer = server }
      copy.relay.ledger.pull(isReadable: memory.isReadable)
      return true
    } catch {
      logger.warning(
        "the guest moves with all of its memory", metadata: ["error": "\(error)"])
      _ = try? await Blocking.run { server.stop() }
      return false
    }
  }

  /// Before the guest is given up: its memory must be there to be given.
  func checkPull(_ copy: Copy) throws {
    guard copy.relay.ledger.state.read({ $0.pulls }),
      case .failed(let failure) = state.read({ $0.pullEnd })
    else { return }
    throw Ending.failed("the guest's memory cannot be read: \(failure)")
  }

  /// The guest runs at the destination: gives it the pages it lacks, for as long as that takes.
  func servePull() async -> SourceCommitMachine.Input {
    try? await enter(.pull)
    state.read { $0.pullServer }?.setPrefetching(true)
    while true {
      switch state.read({ $0.pullEnd }) {
      case .done(let done):
        note(done)
        return .performed
      case .failed(let failure):
        logger.error(
          "the guest runs at the destination and cannot be given its pages",
          metadata: ["error": "\(failure)"])
        if case .memory = failure { return .qemuGone }
        return .failed
      case nil: break
      }
      notePullProgress()
      let event = await mailbox.take(timeoutMs: Self.pullReportIntervalMs)
      if case .pull(let event) = event { notePull(event) }
    }
  }

  func notePull(_ event: PullServer.Event) {
    switch event {
    case .connected: note { $0.progress.isConnected = true }
    case .broken(let reason):
      note { $0.progress.isConnected = false }
      guard progress.phase == .pull else { return }
      logger.error(
        """
        the guest runs at the destination and waits for pages that are here; the connection broke \
        and is looked for. Don't end the source's QEMU, don't restart either host; mend the network
        """,
        metadata: ["peer": "\(request.destination)", "error": "\(reason)"])
    case .done(let done): note { $0.pullEnd = .done(done) }
    case .failed(let failure): note { $0.pullEnd = .failed(failure) }
    }
  }

  private func notePullProgress() {
    guard let server = state.read({ $0.pullServer }) else { return }
    let (pages, breaks) = server.counters
    let given = server.given
    // What the destination made itself did not go, and is not owed any more.
    let sent = pages.urgentPages + pages.aheadPages + pages.identifiedPages
    note { state in
      state.progress.retries = (state.record.retries ?? 0) + breaks
      let (now, owed) = (MonotonicClock.nowMs, state.record.pull?.owedPages ?? 0)
      let remaining = (owed > sent ? owed - sent : 0) * UInt64(Page.size)
      let bytes = state.wireBytes(withPull: server)
      if let last = state.lastWire, now > last.atMs {
        state.progress.wireBytesPerSecond =
          (bytes - min(last.bytes, bytes)) * 1000 / (now - last.atMs)
      }
      (state.lastWire, state.progress.wireBytes) = ((now, bytes), bytes)
      state.progress.remainingBytes = remaining
      // What the destination makes itself does not take the link's time.
      state.estimator.pulling(
        .init(
          given: sent, crossed: pages.urgentPages + pages.aheadPages,
          left: pages.crossing(of: owed), isConnected: state.progress.isConnected,
          wireBytesPerPage: given.wireBytesPerPage),
        linkRate: ByteRate(bytesPerSecond: state.progress.wireBytesPerSecond), nowMs: now)
    }
    report()
  }

  private func note(_ done: PullDone) {
    let server = state.read { $0.pullServer?.counters }
    note { state in
      state.record.pull?.placedPages = done.placedPages
      state.record.pull?.faultPages = done.faultPages
      if state.pullServer?.identifies == true { state.record.noteLocal(done) }
      if let server = state.pullServer {
        state.record.noteGiven(server.given, packingMs: server.packingMs)
      }
      state.record.retries = (state.record.retries ?? 0) + (server?.breaks ?? 0)
      if let server = state.pullServer {
        let bytes = state.wireBytes(withPull: server)
        (state.record.wireBytes, state.progress.wireBytes) = (bytes, bytes)
      }
      state.progress.remainingBytes = 0
      if state.auditLeftPages > 0 {
        let audit = state.record.audit
        let missed = state.auditLeftPages - min(done.comparedPages, state.auditLeftPages)
        state.record.audit.pagesUncovered = (audit.pagesUncovered ?? 0).addingSaturating(missed)
        state.record.audit.pagesCompared = (audit.pagesCompared ?? 0).addingSaturating(
          done.comparedPages)
        state.record.audit.pagesDiffering = (audit.pagesDiffering ?? 0).addingSaturating(
          done.differingPages)
      }
    }
  }

  /// Ends the server's threads; whoever recovers the migration has another.
  func stopPull() async {
    guard let server = state.read({ $0.pullServer }) else { return }
    _ = try? await Blocking.run { server.stop() }
  }
}

extension SourceMigration.State {
  /// Bytes of memory so far, and those of disks, which were over before the pull began.
  fileprivate func wireBytes(withPull server: PullServer) -> UInt64 {
    server.wireBytes.addingSaturating(record.disk.wireBytes ?? 0)
  }
}

extension MigrationRecord {
  /// Pages that the destination made itself count in their classes, as those of the copy do.
  fileprivate mutating func noteLocal(_ done: PullDone) {
    pull?.snapshotPages = done.snapshotPages
    pull?.diskPages = done.diskPages
    pull?.vaultPages = done.vaultPages
    pull?.localFaultPages = done.localFaultPages
    pages.snapshot = pages.snapshot.map { $0.addingSaturating(done.snapshotPages) }
    pages.disk = pages.disk.map { $0.addingSaturating(done.diskPages) }
    pages.vault = pages.vault.map { $0.addingSaturating(done.vaultPages) }
  }
}
