import Base
import HostIO
import Logging
import QMP
import Strategy
import Wire

extension SourceMigration {
  /// What `prepare` found out and opened.
  struct Setup: Sendable {
    let vm: ResolvedVM
    let monitor: Monitor
    let facts: VMFacts
    let link: PeerLink
    let offer: PeerMessage.PrepareOffer
    /// Guest memory of the source that can be read directly, by block name.
    var shared: [String: SharedFile]
    /// Guest memory that a page can be read from again, by block name: shared, or QEMU's own.
    var readable: [String: GuestPlace]
    /// Blocks that the destination writes in place.
    let inPlaceBlocks: [String]
    /// Both ends have agreed that the guest may move before its memory.
    let mayPull: Bool
    /// Images whose blocks pages may refer to; nil: none.
    let disks: DiskDirectory?
    /// Disks that move with the guest.
    let moving: [MovingDisk]
    /// Notes what their copies hold; nil: pages do not refer to that.
    let copied: CopiedDisks?
    /// What a look at the guest beforehand says of it; nil: nobody looked, or nothing could be seen.
    let dirtyBound: DirtyBound?
    /// Where zeros lie in the guest's RAM, from a look at the same time.
    let contents: ContentProfile?
  }

  /// Finds the VM, asks the peer, checks everything that can be checked before anything changes.
  func prepare(_ undo: inout SourceUndo) async throws -> Setup {
    guard StrategyName(rawValue: request.strategy) != nil else {
      let names = StrategyName.allCases.map(\.rawValue).joined(separator: ", ")
      throw Ending.refused([
        Refusal(
          .request, "there is no strategy called \"\(request.strategy)\"",
          remedy: "use --strategy with one of \(names)")
      ])
    }
    guard (1...64).contains(request.laneCount) else {
      throw Ending.refused([
        Refusal(.request, "\(request.laneCount) lanes asked for", remedy: "use 1 to 64 lanes")
      ])
    }
    let vm: ResolvedVM
    do { vm = try await VMResolver.resolve(request.vm) } catch {
      throw Ending.refused([Refusal(.request, "\(error)", remedy: "see `godwit vms`")])
    }
    if let refusal = await claim(vm, id) { throw Ending.refused([refusal]) }
    let monitor = try await Monitor.connect(path: vm.monitorPath, timeoutMs: Self.connectTimeoutMs)
    (undo.monitor, undo.process) = (monitor, vm.process?.identity)
    Task { [mailbox] in
      await monitor.closed()
      mailbox.put(.qemuGone)
    }
    let facts = try await VMFacts.gather(monitor.client)
    note { state in
      state.record.vm = vm.name
      state.record.qemu.source = facts.version.description
      state.progress.vm = vm.name
      state.progress.ramBytes = facts.ramBytes
      state.guestUUID = facts.uuid
    }
    let own =
      PrepareChecks.check(source: facts, destination: nil, host: nil, request: request)
      + PrepareChecks.ledger(facts, memoryLimit: configuration.memoryLimitBytes)
    guard own.isEmpty else { throw Ending.refused(own) }

    let images = await indexedImages(monitor, vm)
    let claims = try await DiskClaims.make(facts, request.disks, id, monitor.client)
    defer { DiskClaims.dropProbes(claims) }
    let staying = try await leaveProbes(facts, claims)
    defer { StayingDisk.dropProbes(staying) }
    let link = try await connectControl()
    undo.link = link
    note { $0.watcher = link }
    try link.send(
      .prepare(
        .init(
          vm: vm.name, source: facts,
          commandLine: vm.process.map { [$0.program] + $0.arguments } ?? [],
          strategy: request.strategy, audit: request.audit, pageSource: request.pageSource,
          pull: request.mayPull, images: images.isEmpty ? nil : images.map(ImageClaim.init),
          disks: claims.map { $0.map(\.claim) }, staying: staying,
          copiedBlocks: namesCopiedBlocks ? true : nil,
          gang: gang?.role)))
    // The destination starts its QEMU meanwhile.
    let look = Task { [wantsBound = request.withinMs != nil] in
      try? await GuestSampler.beforehand(
        monitor.client, vm.process?.identity, wantsBound: wantsBound)
    }
    defer { look.cancel() }
    let answer = try await nextMessage(
      timeoutMs: configuration.startTimeoutMs + Self.answerTimeoutMs,
      waitingFor: "preparing the destination's QEMU")
    guard case .offer(let offer) = answer else {
      throw Ending.failed("\(request.destination) answered `prepare` with something else")
    }
    note { $0.record.qemu.destination = offer.destination.version.description }
    let refusals = PrepareChecks.check(
      source: facts, destination: offer.destination, host: offer.host, request: request)
    guard refusals.isEmpty else { throw Ending.refused(refusals) }
    let moving = try agreeOnDisks(claims, offer)
    let copied = noteCopies(moving, offer)
    let shared = try await openShared(monitor, vm)
    let mayPull = request.mayPull && offer.mayPull == true && vm.process != nil
    // Memory that QEMU may come to wait for is written by QEMU alone.
    let inPlace = request.pageSource == .inline || mayPull ? [] : offer.sharedBlocks
    let seen = await look.value
    let isRead = request.pageSource == .auto && seen?.places.isEmpty == false
    let from = shared.isEmpty ? isRead ? "process" : "inline" : "shared"
    let to = inPlace.isEmpty ? "inline" : "shared"
    let kind = from == to ? from : "\(from) to \(to)"
    note { state in
      state.record.pageSource = kind
      state.progress.pageSource = kind
    }
    return Setup(
      vm: vm, monitor: monitor, facts: facts, link: link, offer: offer, shared: shared,
      readable: (seen?.places ?? [:]).merging(shared.mapValues { .shared($0) }) { $1 },
      inPlaceBlocks: inPlace, mayPull: mayPull,
      disks: DiskDirectory(images, offer.images ?? [], copied), moving: moving, copied: copied,
      dirtyBound: seen?.bound, contents: seen?.contents)
  }

  /// How pages are made smaller: as asked for, as far as the destination understands it.
  func compaction(_ setup: Setup) -> CompactionPlan? {
    let encodings = encodings(setup)
    guard encodings.contains(.packed) else { return nil }
    var plan = CompactionPlan(request.compaction, threads: configuration.compactionThreadCount)
    if encodings.contains(.references) {
      // Where the destination reads memory directly, to make pages of what it has, and the source can read
      // it, to send a page again that could not be made.
      plan?.readableBlocks = Set(setup.inPlaceBlocks).intersection(setup.readable.keys)
      plan?.memoryBytes = configuration.memoryLimitBytes / 2
    }
    // A page that the destination could not make is sent again, out of memory that can be read.
    if encodings.contains(.disk), !setup.readable.isEmpty {
      plan?.disks = setup.disks
      plan?.answerableBlocks = Set(setup.readable.keys)
    }
    if setup.offer.vault != nil { plan?.answerableBlocks = Set(setup.readable.keys) }
    if encodings.contains(.gang), let blocks = setup.offer.gangBlocks, !setup.readable.isEmpty {
      plan?.gang = gang
      plan?.gangBlocks = Set(blocks)
      plan?.answerableBlocks = Set(setup.readable.keys)
    }
    return plan
  }

  /// How pages that are pulled are made smaller, with the same effort and threads; nil: not at all.
  func pullPacking(_ setup: Setup) -> PullPacking? {
    guard setup.mayPull, encodings(setup).contains(.pullPacked) else { return nil }
    return CompactionPlan(request.compaction, threads: configuration.compactionThreadCount).map {
      PullPacking(effort: $0.effort, threads: $0.threads, lanes: request.laneCount)
    }
  }

  /// What the destination understands beside plain pages.
  func encodings(_ setup: Setup) -> [PeerMessage.PageEncoding] {
    (setup.offer.encodings ?? []).compactMap { PeerMessage.PageEncoding(rawValue: $0) }
  }

  /// The guest's images that this host has an index of, where their blocks could be referred to.
  private func indexedImages(_ monitor: Monitor, _ vm: ResolvedVM) async -> [StoredIndex] {
    guard request.compaction != .off else { return [] }
    return await GuestImages.indexed(monitor.client, vm: vm.name, configuration)
  }

  /// Whether pages may refer to blocks of the disks that move along.
  private var namesCopiedBlocks: Bool {
    guard let disks = request.disks else { return false }
    return request.compaction != .off && disks.sendsCachedBlocks != true
  }

  /// Nil: no disk moves, or pages shall not refer to its copy.
  private func noteCopies(
    _ moving: [MovingDisk], _ offer: PeerMessage.PrepareOffer
  ) -> CopiedDisks? {
    let isUnderstood = offer.encodings?.contains(PeerMessage.PageEncoding.copied.rawValue) == true
    guard namesCopiedBlocks, isUnderstood else { return nil }
    return CopiedDisks(moving, memoryLimit: configuration.memoryLimitBytes)
  }

  /// Beside the disks that don't move along, so that the destination sees whether it has the same.
  private func leaveProbes(
    _ facts: VMFacts, _ claims: [ClaimedDisk]?
  ) async throws -> [StayingDisk] {
    let (wishes, id) = (request.disks, id)
    let left = try await Blocking.run {
      StayingDisk.leaveProbes(facts, moving: claims, wishes, id)
    }
    for name in left.unseen {
      logger.warning(
        "nobody can see whether the destination has the same disk", metadata: ["disk": "\(name)"])
    }
    return left.disks
  }

  /// Opens the control lane and says hello.
  private func connectControl() async throws -> PeerLink {
    let socket: any ByteConnection
    do { socket = try await connect(role: .control, lane: 0, token: id) } catch {
      guard let refusal = Refusal(security: error) else { throw error }
      throw Ending.refused([refusal])
    }
    let link = PeerLink(socket)
    link.start(backlog: { [mailbox] in mailbox.count }) { [mailbox] in mailbox.put(.peer($0)) }
    return link
  }

  /// Connects to the peer and shakes hands; used for every lane.
  func connect(role: Hello.Role, lane: UInt16, token: MigrationID) async throws
    -> any ByteConnection
  {
    let (destination, id, security) = (request.destination, id, PeerSecurity(configuration))
    return try await Blocking.run {
      try PeerConnection.open(
        destination, Hello(role: role, lane: lane, migration: id, token: token),
        security: security, timeoutMs: Self.connectTimeoutMs)
    }
  }

  /// Opens the shared RAM blocks that the request wants to be read directly.
  private func openShared(
    _ monitor: Monitor, _ vm: ResolvedVM
  ) async throws -> [String: SharedFile] {
    guard request.pageSource != .inline else { return [:] }
    var shared: [String: SharedFile] = [:]
    if let pid = vm.process?.pid {
      for block in try await SharedMemoryBackend.locate(monitor.client, pid: pid) {
        do {
          shared[block.blockName] = try SharedFile(
            path: block.path, offset: block.offset, length: block.length, writable: false)
        } catch {
          logger.warning("shared guest memory cannot be opened", metadata: ["error": "\(error)"])
        }
      }
    }
    if shared.isEmpty, request.pageSource == .shared {
      throw Ending.refused([
        Refusal(
          .sharedMemoryMissing,
          "--page-source shared, but no RAM of \(vm.name) is shared memory the agent can open",
          remedy: "start QEMU with memory-backend-memfd,share=on, or use --page-source auto")
      ])
    }
    return shared
  }
}
