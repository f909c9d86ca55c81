import DiskStrategy

/// The copier, the link, and the end.
extension DiskMoveRun {
  /// Every sender that has nothing to do takes something.
  mutating func copy() {
    guard machine != nil, endUs == nil, isConnected else { return }
    while busySenders < Self.senderCount {
      guard pace.mayGo(nowUs: nowUs) else { return }
      if turns.isForForwarded, sendForwarded() { continue }
      let followed = order.followedCount
      guard mayRead,
        let run = order.next(
          map, follows: decision.followsGuest, nowUs: nowUs, sparesAhead: setup.cacheBytes == 0)
      else {
        guard sendForwarded() else { return }
        continue
      }
      pace.spend(byteCount(run))
      map.begin(run)
      turns.noteCopied(byteCount(run))
      busySenders += 1
      sendNumber += 1
      copies[sendNumber] = (run, order.followedCount > followed)
      add(.copier(sendNumber), isWrite: false, run)
    }
  }

  private var mayRead: Bool {
    frozenUs != nil || !decision.followsGuest || copies.count < DiskMoveTerms.followingReadsMax
      || !order.isGuestBusy(nowUs: nowUs)
  }

  /// Sends what has waited longest in memory; false: nothing has.
  private mutating func sendForwarded() -> Bool {
    guard let first = queue.first else { return false }
    queue.removeFirst()
    let bytes = byteCount(first.blocks)
    queuedBytes -= Int(bytes)
    turns.noteForwarded(bytes)
    pace.spend(bytes)
    busySenders += 1
    sendInTurn(first.blocks, first.content)
    return true
  }

  mutating func copied(_ copy: Int, _ content: [UInt32]) {
    guard let (run, follows) = copies.removeValue(forKey: copy) else { return }
    // Around the guest it may soon be wanted again; elsewhere it would only drive out what the guest needs.
    if follows { cache.add(run) }
    sendInTurn(run, content)
  }

  /// A run of the copier's, when it is its turn: writes to both sides must not stand behind many of them.
  private mutating func sendInTurn(_ blocks: Range<Int>, _ content: [UInt32]) {
    guard decision.writes != .mirror || linkSends < DiskMoveTerms.mirroredSendsMax else {
      return linkWaiting.append((blocks, content))
    }
    linkSends += 1
    send(blocks, content, client: nil, isCopier: true)
  }

  /// To be sent from memory; the blocks are on their way as the map has it.
  mutating func forward(_ blocks: Range<Int>, _ content: [UInt32]) {
    guard isConnected else { return map.end(blocks, arrived: false) }
    queue.append((blocks, content))
    queuedBytes += Int(byteCount(blocks))
  }

  mutating func send(
    _ blocks: Range<Int>, _ content: [UInt32], client: Int?, isCopier: Bool
  ) {
    sendNumber += 1
    let bytes = byteCount(blocks)
    outcome.wireBytes += bytes
    linkFreeUs =
      max(linkFreeUs, nowUs) + UInt64(Double(bytes) * 1e6 / setup.linkBytesPerSecond)
    sends[sendNumber] = Send(
      blocks: blocks, content: content, client: client, isCopier: isCopier,
      connection: connection)
    // There and the answer back.
    events.add(.delivered(sendNumber), atUs: linkFreeUs + setup.linkLatencyUs * 2)
  }

  mutating func delivered(_ number: Int) {
    guard let send = sends.removeValue(forKey: number) else { return }
    let hasArrived = send.connection == connection && isConnected
    if hasArrived { contents.arrive(send.blocks, send.content) }
    if let client = send.client {
      if !hasArrived { clients[client].hasArrived = false }
      return partEnded(client)
    }
    if send.isCopier {
      busySenders -= 1
      linkSends -= 1
      if !linkWaiting.isEmpty {
        let next = linkWaiting.removeFirst()
        linkSends += 1
        self.send(next.blocks, next.content, client: nil, isCopier: true)
      }
    }
    // What is being written here was perhaps read before it was.
    let isKept =
      hasArrived
      && !clients.contains {
        $0.openParts > 0 && !$0.isMirrored && $0.blocks.overlaps(send.blocks)
      }
    map.end(send.blocks, arrived: isKept)
    if isKept { arrivedBytes += byteCount(send.blocks) }
    releaseHeld()
  }

  mutating func cut() {
    guard isConnected, endUs == nil else { return }
    isConnected = false
    connection += 1
    map.loseUnflushed()
    meter.forget()
    for waiting in queue { map.end(waiting.blocks, arrived: false) }
    (queue, queuedBytes) = ([], 0)
    thaw()
    events.add(.joined, atUs: nowUs + Self.checkpointUs)
  }

  mutating func tick() {
    guard endUs == nil, machine != nil else { return }
    events.add(.tick, atUs: nowUs + Self.tickUs)
    let needed = map.neededByteCount
    meter.note(nowMs: nowUs / 1000, sentBytes: arrivedBytes, neededBytes: needed)
    let sample = MoveSample(
      nowMs: nowUs / 1000, neededBytes: needed, diskBytes: geometry.byteCount,
      roundCount: order.roundCount, bytesPerSecond: meter.bytesPerSecond,
      isConnected: isConnected)
    decision = machine?.look(sample) ?? decision
    if isConnected, nowUs - flushedUs >= Self.checkpointUs || frozenUs != nil { flush() }
    if let since = frozenUs {
      endOrThaw(since)
    } else if decision.freezes, isConnected {
      frozenUs = nowUs
    }
  }

  /// What has arrived is on stable storage over there.
  private mutating func flush() {
    flushedUs = nowUs
    if map.beginFlush() { map.endFlush(true) { _ in } }
  }

  private mutating func endOrThaw(_ since: UInt64) {
    if writesInFlight == 0, map.isSynced, map.sendingCount == 0, isConnected {
      outcome.pauseMs = (nowUs - since) / 1000
      endUs = nowUs
    } else if nowUs - since > max(setup.pauseLimitMs, 50) * 1000 {
      machine?.freezeFailed(nowMs: nowUs / 1000)
      thaw()
    }
  }

  private mutating func thaw() {
    frozenUs = nil
    releaseHeld()
  }
}
