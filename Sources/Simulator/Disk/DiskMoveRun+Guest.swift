import DiskStrategy

/// The guest's requests.
extension DiskMoveRun {
  mutating func begin(_ client: Int) {
    let (blocks, isWrite) = setup.load.next(
      &clients[client].place, blockCount: geometry.blockCount, using: &random)
    clients[client].blocks = blocks
    (clients[client].isWrite, clients[client].sinceUs) = (isWrite, nowUs)
    if isWrite { beginWrite(client) } else { beginRead(client) }
  }

  /// A write that may have waited.
  mutating func beginWrite(_ client: Int) {
    let blocks = clients[client].blocks
    guard frozenUs == nil else { return held.append(client) }
    let mirrors = machine != nil && decision.writes == .mirror && isConnected
    if mirrors, !map.isFree(blocks) { return held.append(client) }
    writesInFlight += 1
    map.note(blocks)
    clients[client].value = contents.newValue()
    (clients[client].openParts, clients[client].isMirrored) = (mirrors ? 2 : 1, mirrors)
    clients[client].hasArrived = mirrors
    add(.guest(client), isWrite: true, blocks)
    guard mirrors else { return }
    map.begin(blocks)
    let content = Array(repeating: clients[client].value, count: blocks.count)
    send(blocks, content, client: client, isCopier: false)
  }

  private mutating func beginRead(_ client: Int) {
    let blocks = clients[client].blocks
    order.noteGuest(blocks, nowUs: nowUs)
    if cache.holds(blocks) { return found(client) }
    if machine != nil, decision.widensReads, isConnected, queuedBytes < Self.queueBytesMax {
      // What lies around a small read costs the disk little more: the head is there.
      let start = blocks.lowerBound / Self.aroundBlocks * Self.aroundBlocks
      let end = (blocks.upperBound + Self.aroundBlocks - 1) / Self.aroundBlocks * Self.aroundBlocks
      let around = start..<min(end, geometry.blockCount)
      if map.freeRun(in: around) == around {
        map.begin(around)
        widened[client] = around
        return add(.guest(client), isWrite: false, around)
      }
    }
    add(.guest(client), isWrite: false, blocks)
  }

  /// What is in memory is forwarded, too, where it costs nothing.
  private mutating func found(_ client: Int) {
    let blocks = clients[client].blocks
    if machine != nil, decision.forwardsReads, isConnected, queuedBytes < Self.queueBytesMax,
      map.freeRun(in: blocks) == blocks
    {
      map.begin(blocks)
      // A write may be under way to what was found.
      contents.beginRead(-1, blocks)
      forward(blocks, contents.endRead(-1))
    }
    events.add(.found(client), atUs: nowUs + Self.memoryUs)
  }

  func byteCount(_ blocks: Range<Int>) -> UInt64 { UInt64(blocks.count) << 12 }

  mutating func add(_ owner: DiskRequest.Owner, isWrite: Bool, _ blocks: Range<Int>) {
    device.add(DiskRequest(owner: owner, isWrite: isWrite, blocks: blocks, sinceUs: nowUs))
  }

  mutating func served(_ request: DiskRequest, _ number: Int) {
    device.end()
    switch request.owner {
    case .copier(let copy): copied(copy, contents.endRead(number))
    case .guest(let client):
      if request.isWrite {
        contents.endWrite(request.blocks, clients[client].value)
        written(client)
      } else {
        read(client, contents.endRead(number))
      }
    }
  }

  private mutating func read(_ client: Int, _ content: [UInt32]) {
    let around = widened.removeValue(forKey: client)
    if let around { forward(around, content) }
    cache.add(around ?? clients[client].blocks)
    answer(client)
  }

  private mutating func written(_ client: Int) {
    let blocks = clients[client].blocks
    cache.add(blocks)
    if clients[client].isMirrored { return partEnded(client) }
    clients[client].openParts = 0
    writesInFlight -= 1
    map.note(blocks)
    order.noteGuest(blocks, nowUs: nowUs)
    if decision.writes == .forward, isConnected, queuedBytes < Self.queueBytesMax,
      map.freeRun(in: blocks) == blocks
    {
      map.begin(blocks)
      forward(blocks, Array(repeating: clients[client].value, count: blocks.count))
    }
    answer(client)
  }

  /// One side of a write to both has ended.
  mutating func partEnded(_ client: Int) {
    clients[client].openParts -= 1
    guard clients[client].openParts == 0 else { return }
    writesInFlight -= 1
    map.end(clients[client].blocks, arrived: clients[client].hasArrived)
    order.noteGuest(clients[client].blocks, nowUs: nowUs)
    answer(client)
    releaseHeld()
  }

  mutating func answer(_ client: Int) {
    latencies.append(nowUs - clients[client].sinceUs)
    events.add(.ready(client), atUs: nowUs + setup.load.think(using: &random))
  }

  /// Writes that waited try again, in their order.
  mutating func releaseHeld() {
    guard frozenUs == nil, !held.isEmpty else { return }
    let waiting = held
    held = []
    for client in waiting { beginWrite(client) }
  }
}
