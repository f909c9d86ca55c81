import Base
import DiskStrategy
import HostIO
import NBD
import Synchronization

/// Blocks that come from the source, asked for by the guest or not.
extension DiskPull {
  // MARK: One run

  /// Gets the blocks, and stores them. What is returned kept them from being stored; thrown is what the source said.
  /// No ticket is open afterwards.
  ///
  /// - Parameter buffer: has room for each of them; nil: one is made.
  func fetch(
    _ tickets: [PullTicket], over link: RemoteStore, into buffer: PageBuffer?
  ) throws(StoreError) -> StoreError? {
    // What is known to be zeros first: nobody is to wait for that until the source has answered.
    var rest = (tickets.filter(\.isStore) + tickets.filter { !$0.isStore })[...]
    defer {
      if !rest.isEmpty { state.update { state in rest.forEach { state.map.drop($0) } } }
    }
    while let ticket = rest.first {
      if ticket.isStore {
        rest.removeFirst()
        if let problem = unsafe keep(ticket, nil) { return problem }
        continue
      }
      let range = geometry.bytes(of: ticket.blocks)
      let count = Int(range.upperBound - range.lowerBound)
      let room = buffer ?? PageBuffer(byteCount: count)
      // SAFETY: within the buffer, which nobody else uses.
      let bytes = unsafe room.part(0, count)
      try unsafe link.read(at: range.lowerBound, into: bytes)
      rest.removeFirst()
      let stores = state.update { state in
        state.fetchedBytes += UInt64(count)
        return state.map.arrive(ticket)
      }
      var problem: StoreError?
      for store in stores {
        guard problem == nil else {
          state.update { $0.map.drop(store) }
          continue
        }
        let part = geometry.bytes(of: store.blocks)
        // SAFETY: the slice is bounds-checked; what is stored is a part of what came.
        problem = unsafe keep(
          store,
          UnsafeRawBufferPointer(
            rebasing: bytes[
              Int(part.lowerBound - range.lowerBound)..<Int(part.upperBound - range.lowerBound)]))
      }
      if let problem { return problem }
    }
    return nil
  }

  /// Stores blocks; nil: zeros. Returns what went wrong.
  private func keep(_ ticket: PullTicket, _ bytes: UnsafeRawBufferPointer?) -> StoreError? {
    let range = geometry.bytes(of: ticket.blocks)
    let count = range.upperBound - range.lowerBound
    let isTold = unsafe bytes == nil
    do throws(StoreError) {
      // SAFETY: the caller's buffer, for this call.
      if let bytes = unsafe bytes, unsafe !bytes.bytes.isAllZero {
        try unsafe store.write(bytes, at: range.lowerBound, durable: false)
      } else {
        // What was there before may be anything.
        try store.zero(at: range.lowerBound, count: count, [])
      }
    } catch {
      state.update { $0.map.drop(ticket) }
      return error
    }
    state.update { state in
      if isTold { state.zeroBytes += count }
      state.settle(ticket)
    }
    return nil
  }

  // MARK: Without being asked

  private enum Work: Sendable {
    case over, nothing
    case fetch([PullTicket], RemoteStore)
    /// Asks the source what of a part of the disk is zeros.
    case ask(Range<UInt64>, RemoteStore)
  }

  /// How long a thread sleeps when there is nothing to do, in microseconds: longer from time to time.
  private static let idleUs: UInt64 = 1000
  private static let idleUsMax: UInt64 = 16_000
  /// Longest run of zeros that are made at once, in blocks: 16 MiB.
  private static let zeroBlocksMax = 4096

  /// One copier, until the pull is over.
  func copy() {
    let buffer = PageBuffer(byteCount: DiskGeometry.chunkByteCount)
    var idleUs = Self.idleUs
    while true {
      switch nextWork() {
      case .over: return
      case .nothing:
        MonotonicClock.sleep(us: idleUs)
        idleUs = min(idleUs * 2, Self.idleUsMax)
        continue
      case .ask(let bytes, let link): ask(bytes, link)
      case .fetch(let tickets, let link):
        var problem: String?
        do throws(StoreError) {
          if let error = try fetch(tickets, over: link, into: buffer) {
            problem = "what is pulled can't be stored: \(error)"
          }
        } catch {
          if !link.isBroken { problem = "the source: \(error)" }
        }
        state.update { $0.runCount -= 1 }
        if let problem { stop(problem) }
      }
      idleUs = Self.idleUs
    }
  }

  private func nextWork() -> Work {
    let seen = guest.withLock { $0 }
    return state.update { state -> Work in
      guard state.isPulling else { return .over }
      let nowUs = MonotonicClock.nowUs
      guard !state.isPaused, let link = state.openLink, state.pace.mayGo(nowUs: nowUs) else {
        return .nothing
      }
      let longest = PullTerms.allowance(
        waiting: state.waitingCount,
        sinceUs: state.lastFaultUs.map { nowUs - min($0, nowUs) }, running: state.runCount)
      guard longest > 0 else { return .nothing }
      if let seen, seen.nowUs > state.guestUs {
        state.guestUs = seen.nowUs
        state.order.noteGuest(seen.blocks, nowUs: seen.nowUs)
      }
      guard
        let run = state.order.next(state.map, follows: true, nowUs: nowUs, longest: longest)
      else { return .nothing }
      if let question = state.inquiry.question(at: geometry.bytes(of: run).lowerBound) {
        // Another thread asks; without its answer holes would be read.
        guard !state.isAsking else { return .nothing }
        state.isAsking = true
        return .ask(question, link)
      }
      state.runCount += 1
      if let zeros = state.map.takeZeros(from: run.lowerBound, atMost: Self.zeroBlocksMax) {
        return .fetch([zeros], link)
      }
      return .fetch(state.take(run), link)
    }
  }

  /// Replies to one question, at most: of what is in more pieces the rest is read.
  private static let repliesMax = 64
  private static let extentsMax = 4096

  private func ask(_ bytes: Range<UInt64>, _ link: RemoteStore) {
    var place = bytes.lowerBound
    for _ in 0..<Self.repliesMax where place < bytes.upperBound {
      let extents: [NBDExtent]
      do throws(StoreError) {
        extents = try link.status(
          at: place, count: bytes.upperBound - place, extentsMax: Self.extentsMax)
      } catch { break }
      state.update { state in
        for extent in extents where place < bytes.upperBound {
          let length = min(extent.length, bytes.upperBound - place)
          if extent.flags & NBDExtent.zero != 0 {
            state.map.noteZeros(geometry.covered(at: place, count: length))
          }
          place += length
        }
      }
    }
    state.update { state in
      state.isAsking = false
      // Over another connection once more, and less of it.
      if link.isBroken { state.inquiry.noteBreak() } else { state.inquiry.noteAnswer(to: bytes) }
    }
  }
}
