import Base
import HostIO
import Logging
import Wire

extension MigrationAgent {
  /// Copies that leave this host at one time.
  static let warmingMax = 4

  /// Copies a guest's memory into the vault of another host, once; the guest goes on.
  public func warm(
    _ request: WarmRequest, progress: @Sendable @escaping (WarmLook) -> Void
  ) async throws -> WarmRecord {
    guard !isDraining else {
      throw ControlError(.refused, "the agent of this host is shutting down")
    }
    guard warming.count < Self.warmingMax else {
      throw ControlError(
        .refused, "\(warming.count) guests are copied already; try again when one is through")
    }
    guard warming.insert(request.vm).inserted else {
      throw ControlError(.refused, "the memory of \(request.vm) is being copied already")
    }
    defer { warming.remove(request.vm) }
    let share = link.join()
    defer { share.leave() }
    do {
      return try await copy(request, share, progress)
    } catch Ending.refused(let refusals) {
      throw ControlError(
        .refused, TerminalText.plain(refusals.map(\.description).joined(separator: "; ")))
    } catch {
      guard let refusal = Refusal(security: error) else { throw error }
      throw ControlError(.refused, TerminalText.plain(refusal.description))
    }
  }

  nonisolated private func copy(
    _ request: WarmRequest, _ share: LinkShare, _ progress: @Sendable @escaping (WarmLook) -> Void
  ) async throws -> WarmRecord {
    let vm = try await Self.resolve(request.vm)
    let (memory, uuid) = try await openMemory(vm)
    guard let rate = ByteRate(bytesPerSecond: request.bandwidthBytesPerSecond) else {
      throw ControlError(.usage, "a bandwidth of 0 moves nothing")
    }
    let stop = WarmStop()
    let pass = WarmPass(
      memory: memory, guest: vm.name, uuid: uuid,
      filterBytesMax: configuration.memoryLimitBytes / 4, rate: rate, share: share, stop: stop)
    let security = PeerSecurity(configuration)
    var record = try await withTaskCancellationHandler {
      try await WorkerThread.run("gw-warm") {
        var random = SystemRandomNumberGenerator()
        let id = MigrationID(using: &random)
        let socket = try PeerConnection.open(
          request.destination, Hello(role: .warm, lane: 0, migration: id, token: id),
          security: security, timeoutMs: SourceMigration.connectTimeoutMs)
        defer { socket.shutdown() }
        return try pass.run(socket, progress: progress)
      }
    } onCancel: {
      stop.call()
    }
    record.destination = request.destination
    return record
  }

  /// The guest's memory as it can be read from outside, and its UUID.
  nonisolated private func openMemory(_ vm: ResolvedVM) async throws -> (SampledMemory, String) {
    let monitor = try await Monitor.connect(
      path: vm.monitorPath, timeoutMs: SourceMigration.connectTimeoutMs)
    do {
      let facts = try await VMFacts.gather(monitor.client)
      guard let process = vm.process?.identity,
        let memory = try await SampledMemory.open(monitor.client, process)
      else {
        throw ControlError(
          .refused,
          "the memory of \(vm.name) can't be read from here: its QEMU must be a process of "
            + "this host that the agent may trace (root may)")
      }
      await monitor.close()
      return (memory, facts.uuid)
    } catch {
      await monitor.close()
      throw error
    }
  }

  /// Takes a copy of a guest of another host into the vault.
  func serveWarm(_ socket: any ByteConnection) async {
    let isFull = warmed >= WarmReceiver.connectionsMax
    if isFull || isDraining {
      let why = isFull ? "\(warmed) guests are copied to it already" : "it is shutting down"
      return PeerConnection.welcome(socket, refusal: why)
    }
    warmed += 1
    let receiver = WarmReceiver(configuration)
    do {
      try await WorkerThread.run("gw-warm-rx") {
        PeerConnection.welcome(socket)
        try receiver.serve(socket)
      }
    } catch {
      logger.notice(
        "no copy of a guest's memory", metadata: ["peer": "\(socket.peer)", "error": "\(error)"])
    }
    socket.finish()
    warmed -= 1
  }
}
