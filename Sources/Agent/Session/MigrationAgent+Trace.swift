import Base
import HostIO
import QMP
import Strategy

extension MigrationAgent {
  /// Guests that are looked at from outside at one time: each costs up to a fifth of a core.
  static let samplersMax = 4

  /// Records what a guest dirties, without moving it; `progress` hears of every epoch.
  public func trace(
    _ request: TraceRequest, progress: @Sendable @escaping (TraceLook) -> Void
  ) async throws -> TraceRecord {
    try beginSampling()
    defer { endSampling() }
    return try await Self.record(request, progress)
  }

  nonisolated private static func record(
    _ request: TraceRequest, _ progress: @Sendable @escaping (TraceLook) -> Void
  ) async throws -> TraceRecord {
    let vm = try await resolve(request.vm)
    let monitor = try await Monitor.connect(
      path: vm.monitorPath, timeoutMs: SourceMigration.connectTimeoutMs)
    do {
      guard let process = vm.process?.identity,
        let memory = try await SampledMemory.open(monitor.client, process)
      else {
        throw ControlError(
          .refused,
          "the memory of \(vm.name) can't be read from here: its QEMU must be a process of "
            + "this host that the agent may trace (root may)")
      }
      let vcpus = try await monitor.client.queryCPUsFast().count
      await monitor.close()
      return try await record(request, vm.name, vcpus, memory, progress)
    } catch {
      await monitor.close()
      throw error
    }
  }

  nonisolated private static func record(
    _ request: TraceRequest, _ name: String, _ vcpus: Int, _ memory: SampledMemory,
    _ progress: @Sendable @escaping (TraceLook) -> Void
  ) async throws -> TraceRecord {
    let epochs = Guarded<[[UInt64]]>([])
    let sampler = GuestSampler(memory, seed: .random(in: .min ... .max))
    let schedule = GuestSampler.Schedule(
      intervalMs: request.epochMs, intervals: Int(clamping: request.epochCount))
    let track = try await sampler.trace(schedule) { epoch in
      let count = epochs.update { epochs in
        epochs.append([epoch.lengthMs] + epoch.dirtiedByHeat)
        return epochs.count
      }
      progress(
        TraceLook(
          epochs: UInt64(count), lastMs: epoch.lengthMs,
          dirtiedPages: epoch.dirtiedByHeat.reduce(0, +)))
    }
    return TraceRecord(
      vm: name, source: memory.source, sampledPages: UInt64(track.sample.pages.count),
      ramPages: memory.ramPages + memory.unseenPages, unseenPages: memory.unseenPages,
      zeroPages: track.zeroPages.pages, vcpuCount: UInt64(max(vcpus, 1)),
      epochs: epochs.read { $0 })
  }

  /// The VM, or a refusal in the words of the control socket.
  nonisolated static func resolve(_ name: String) async throws -> ResolvedVM {
    do { return try await VMResolver.resolve(name) } catch let error as VMResolutionError {
      throw ControlError(.refused, "\(error); see `godwit vms`")
    }
  }

  func beginSampling() throws {
    guard samplers < Self.samplersMax else {
      throw ControlError(
        .refused, "\(samplers) guests are looked at already; try again when one of them is done")
    }
    samplers += 1
  }

  func endSampling() { samplers -= 1 }
}
