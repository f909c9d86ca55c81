import Base
import HostIO
import Strategy
import Wire

// Pages that are made here, of what this host has, in place of being pulled.
extension PullFeeder {
  /// How often is looked whether pages take too long to make, in microseconds: a fifth of what a guest waits for one.
  private static let watchUs: UInt64 = 10_000
  /// Threads that make pages end within so long when they can, in milliseconds.
  private static let makersEndMs: UInt64 = 1000

  /// Begins to make pages. What was asked for by then comes from the source.
  func beginLocal() {
    guard let local else { return }
    let candidates = local.candidates
    directory.update { $0.mayBeMade(candidates) }
    // What the guest waits for does not stand behind a disk that reads something else.
    maker("gw-pull-make-0", isUrgent: true) { (feeder) throws(RelayFailure) in
      try feeder.makePages(isUrgent: true)
    }
    maker("gw-pull-make-1", isUrgent: false) { (feeder) throws(RelayFailure) in
      try feeder.makePages(isUrgent: false)
    }
    maker("gw-pull-watch", isUrgent: true) { (feeder) throws(RelayFailure) in
      try feeder.watchMakers()
    }
  }

  private func maker(
    _ name: String, isUrgent: Bool,
    _ body: @escaping @Sendable (PullFeeder) throws(RelayFailure) -> Void
  ) {
    makers.update { $0 += 1 }
    _ = WorkerThread(name, isUrgent: isUrgent) { [self] in
      do throws(RelayFailure) { try body(self) } catch {
        if !isStopping.read({ $0 }) { onEvent(.failed(error)) }
      }
      makers.update { $0 -= 1 }
    }
  }

  /// The source says what proves pages that may be here.
  func identified(_ frame: PullIdentities) throws(RelayFailure) {
    guard let local, frame.identities.allSatisfy(local.isAgreedOn) else {
      throw .protocolViolation("proof of pages, which was not agreed on")
    }
    do throws(PullRefusal) {
      try directory.update { (directory) throws(PullRefusal) in
        let pages = try directory.numbering.numbers(
          block: Int(frame.block), firstPage: frame.firstPage,
          count: UInt64(frame.identities.count))
        for (page, identity) in zip(pages, frame.identities) {
          // Kept before anybody can take the page to make it.
          if try directory.identified(page, isKnown: identity != .unknown) {
            local.keep(identity, of: page)
          }
        }
      }
    } catch {
      throw .protocolViolation("proof of pages outside RAM: \(error)")
    }
    try askForMore()
  }

  /// Ends the threads; QEMU's socket is shut by then, so that none of them waits for it. One that a disk holds is left
  /// to it: it finds the pull over if it ever comes back.
  func stopLocal() {
    directory.update { _ in }
    _ = makers.wait(timeoutMs: Self.makersEndMs) { $0 == 0 ? true : nil }
  }

  /// Asks for what takes too long to make: of that only time tells.
  private func watchMakers() throws(RelayFailure) {
    while !isStopping.read({ $0 }), directory.read({ $0.mayMakeMore }) {
      try askForMore()
      MonotonicClock.sleep(us: Self.watchUs)
    }
  }

  private func makePages(isUrgent: Bool) throws(RelayFailure) {
    guard let local else { return }
    let buffer = PageBuffer(byteCount: LocalPages.batchPages * Page.size)
    while true {
      let next = directory.wait { directory -> [Int]?? in
        if isStopping.read({ $0 }) || !directory.mayMakeMore { return .some(nil) }
        let pages = directory.takeToMake(
          isUrgent: isUrgent, limit: LocalPages.batchPages, nowUs: MonotonicClock.nowUs)
        return pages.isEmpty ? nil : .some(pages)
      }
      guard let pages = next ?? nil else { return }
      let origins = try local.make(pages, into: buffer)
      for origin in [PullOrigin.snapshot, .disk, .vault] {
        try placeMade(pages, origins, origin, buffer)
      }
      let failed = zip(pages, origins).filter { $0.1 == nil }.map { $0.0 }
      guard !failed.isEmpty else { continue }
      directory.update { directory in
        // They are pages: the directory has named them.
        for page in failed { _ = try? directory.failed(page) }
      }
      try askForMore()
    }
  }

  /// Gives those that were made of one thing to QEMU.
  private func placeMade(
    _ pages: [Int], _ origins: [PullOrigin?], _ origin: PullOrigin, _ buffer: PageBuffer
  ) throws(RelayFailure) {
    let places = origins.indices.filter { origins[$0] == origin }
    guard !places.isEmpty else { return }
    let content = PageBuffer(byteCount: places.count * Page.size)
    var picked = PickedPages()
    let numbering = directory.read { $0.numbering }
    for (index, place) in places.enumerated() {
      content.store(
        buffer.span((place + 1) * Page.size).extracting(last: Page.size), at: index * Page.size)
      let block = numbering.block(of: pages[place])
      // The stream's blocks are below 2^16.
      picked.add(
        block: UInt16(truncatingIfNeeded: block),
        page: UInt64(pages[place] - numbering.bases[block]), isZero: false)
    }
    try place(picked.runs, content, from: origin)
  }
}
