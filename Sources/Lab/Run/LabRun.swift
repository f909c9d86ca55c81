import Agent
import Base
import Glibc
import HostIO

/// Runs a scenario: for each method a fresh guest, a migration, and a look at what became of it.
public struct LabRun: Sendable {
  /// After a move the clients are watched this long: a lost packet's retransmission is part of the
  /// gap.
  static let aftermathMs: UInt64 = 1500
  /// A full scan of the guest's memory after the move must end within this time.
  static let scanTimeoutMs: UInt64 = 120_000

  public let options: LabOptions
  let observer: any LabObserver

  public init(options: LabOptions, observer: any LabObserver) {
    (self.options, self.observer) = (options, observer)
  }

  /// Does the whole experiment and hands each trial over when it is done. Whatever happens, also
  /// when the task is cancelled, hosts and processes are gone afterwards.
  public func run(each: (Trial) async -> Void) async throws {
    try await withHosts { commandLine, hosts, folder in
      for round in 0..<options.repeatCount {
        for plan in options.plans {
          try Task.checkCancellation()
          var options = options
          options.audit = plan.audit
          let trials = try await Self.trials(
            plan.method, label: "\(round)\(plan.label)", options: options,
            commandLine: commandLine, hosts: hosts, folder: folder, observer: observer)
          for trial in trials { await each(trial) }
        }
      }
    }
  }

  /// Why a migration was called off for its time.
  static func notFinished(_ options: LabOptions) -> String {
    "not finished after \(Milliseconds.format(options.timeoutMs))"
  }

  /// Makes hosts for `body` and takes them away after it, whatever happens in it.
  func withHosts(
    _ body: (GuestCommandLine, HostPair, RunFolder) async throws -> Void
  ) async throws {
    let commandLine = try await prepare(CacheFolder())
    try await withNetwork { hosts, folder in try await body(commandLine, hosts, folder) }
  }

  /// The same where no guest is booted.
  func withNetwork(_ body: (HostPair, RunFolder) async throws -> Void) async throws {
    // A guest that dies closes its connections; writing to them must be an error, not a signal.
    _ = signal(SIGPIPE, SIG_IGN)
    let folder = try await RunFolder.create()
    let hosts: HostPair
    do {
      hosts = try await makeHosts(folder)
      try LabPKI.make(for: hosts, in: folder)
    } catch {
      folder.remove()
      throw error
    }
    do {
      try await body(hosts, folder)
    } catch {
      // What fails because the run was called off is no failure.
      let isCalledOff = Task.isCancelled || error is CancellationError
      await cleanUp(hosts, folder, afterFailure: !isCalledOff)
      throw isCalledOff ? CancellationError() : error
    }
    await cleanUp(hosts, folder, afterFailure: false)
  }

  func prepare(_ cache: CacheFolder) async throws -> GuestCommandLine {
    try options.guest.validate()
    let freeHugePages = try? SmallFile.read(
      "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    try options.guest.checkHugePages(
      free: freeHugePages.flatMap { UInt64($0.prefix { $0.isNumber }) })
    func program(_ path: String?) async throws -> QEMUProgram {
      guard let path else { return try await .preferred(cache: cache) }
      return try await QEMUProgram(path: path)
    }
    let source = try await program(options.sourceQEMU)
    let destination = try await program(options.destinationQEMU)
    let image = try await GuestImage.prepare(cache: cache, server: options.guest.server)
    let versions =
      source.version == destination.version
      ? source.version : "\(source.version) to \(destination.version)"
    await observer.note(
      "guest: \(options.guest.memory), \(options.guest.machine.rawValue), "
        + "\(options.guest.accelerator.rawValue.uppercased()), QEMU \(versions)")
    return GuestCommandLine(
      specification: options.guest, image: image, source: source, destination: destination)
  }

  private func makeHosts(_ folder: RunFolder) async throws -> HostPair {
    let reason = options.forceLoopback ? "asked for" : await HostPair.whyNoNamespaces()
    let hosts = try await HostPair.create(
      kind: reason == nil ? .namespaces : .loopback, linkRate: options.linkRate,
      latencyMs: options.linkLatencyMs, folder: folder)
    let rate = ByteRate(bytesPerSecond: hosts.linkBytesPerSecond)?.description ?? "?"
    if let reason {
      await observer.note(
        "hosts: both on this machine's loopback interface (\(reason)). No real link: a rate limit"
          + " of \(rate) stands for it, bytes on the wire are what each side says of itself, and the clients have"
          + " to reconnect after the move because the guest changes its address")
    } else {
      await observer.note(
        "hosts: two network namespaces, joined by a link of \(rate)"
          + (hosts.linkLatencyMs > 0 ? ", \(hosts.linkLatencyMs) ms each way" : ""))
    }
    return hosts
  }

  private func cleanUp(_ hosts: HostPair, _ folder: RunFolder, afterFailure: Bool) async {
    if options.keep {
      await observer.note(
        "kept: logs in \(folder.path), namespaces \(hosts.prefix)*; Ctrl-C ends it")
      while !Task.isCancelled { try? await Task.sleep(for: .seconds(3600)) }
    }
    // Not cut short by a cancelled task: the clean-up runs in a task of its own.
    await Task {
      await hosts.remove()
      Leftovers.endProcesses(listedIn: folder.file("processes"))
      Leftovers.endProcesses(naming: folder.path + "/")
      Leftovers.removeMemoryFiles(prefix: folder.prefix + "-")
      if afterFailure { await observer.note("logs: \(folder.path)") } else { folder.remove() }
    }.value
  }
}
