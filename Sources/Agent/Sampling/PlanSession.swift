import Base
import HostIO
import QMP
import Strategy
import Wire

/// What `prepare` checks, as far as it goes without a QEMU at the destination; then the link, then the guest.
struct PlanSession: Sendable {
  /// Sixteen intervals: windows of 0.25, 0.5, 1, 2 and 4 s.
  static let schedule = GuestSampler.Schedule(
    intervalMs: 250, intervals: 16, keepsContents: true)

  let request: MigrationRequest
  let configuration: AgentConfiguration
  let share: LinkShare

  func run() async throws -> PlanReport {
    let vm = try await MigrationAgent.resolve(request.vm)
    let monitor = try await Monitor.connect(
      path: vm.monitorPath, timeoutMs: SourceMigration.connectTimeoutMs)
    do {
      let report = try await look(vm, monitor)
      await monitor.close()
      return report
    } catch let ending as Ending {
      await monitor.close()
      guard case .refused(let refusals) = ending else { throw ending }
      return refused(vm, refusals)
    } catch {
      await monitor.close()
      guard let refusal = Refusal(security: error) else { throw error }
      return refused(vm, [refusal])
    }
  }

  private func refused(_ vm: ResolvedVM, _ refusals: [Refusal]) -> PlanReport {
    var report = PlanReport(vm: vm.name, destination: request.destination)
    report.refusals = refusals
    return report
  }

  private func look(_ vm: ResolvedVM, _ monitor: Monitor) async throws -> PlanReport {
    let facts = try await VMFacts.gather(monitor.client)
    let own = PrepareChecks.check(source: facts, destination: nil, host: nil, request: request)
    guard own.isEmpty else { throw Ending.refused(own) }
    let probe = LinkProbe(
      destination: request.destination, security: PeerSecurity(configuration), share: share,
      laneCount: request.laneCount)
    var random = SystemRandomNumberGenerator()
    let id = MigrationID(using: &random)
    let claims = try await DiskClaims.make(facts, request.disks, id, monitor.client)
    defer { DiskClaims.dropProbes(claims) }
    let staying = try await Blocking.run { [wishes = request.disks] in
      StayingDisk.leaveProbes(facts, moving: claims, wishes, id).disks
    }
    defer { StayingDisk.dropProbes(staying) }
    let question = PeerMessage.PrepareRequest(
      vm: vm.name, source: facts, commandLine: vm.process.map { [$0.program] + $0.arguments } ?? [],
      strategy: request.strategy, audit: request.audit, pageSource: request.pageSource,
      disks: claims.map { $0.map(\.claim) }, staying: staying)
    // One after the other: each would disturb the other.
    let (survey, link) = try await WorkerThread.run("gw-probe") { try probe.run(question) }
    let refusals =
      survey.refusals
      + PrepareChecks.check(source: facts, destination: nil, host: survey.host, request: request)
    guard refusals.isEmpty else { throw Ending.refused(refusals) }

    var report = PlanReport(vm: vm.name, destination: request.destination)
    report.qemu = facts.version.description
    report.link = link
    report.disks = try plannedDisks(claims, survey)
    report.guest = try await sample(vm, monitor, probe, question)
    report.vcpuCount = UInt64(max(facts.cpuCount, 1))
    let online = ProcFile.text("/sys/devices/system/cpu/online").flatMap(CPUSet.init(parsing:))
    report.hostCores = online.map { UInt64(max($0.count, 1)) }
    report.canPull =
      survey.canWaitForPages && vm.process != nil
      && facts.knownCapabilities.contains("postcopy-ram")
      && facts.ramBlocks.allSatisfy { $0.pageSize == UInt64(Page.size) }
    return report
  }

  private func plannedDisks(
    _ claims: [ClaimedDisk]?, _ survey: PeerMessage.SurveyAnswer
  ) throws -> [PlannedDisk]? {
    guard let claims else { return nil }
    guard let answers = survey.disks, answers.map(\.device) == claims.map(\.claim.device) else {
      throw Ending.refused([
        Refusal(
          .disks, "the agent at \(request.destination) takes no disks",
          remedy: "install this version of Godwit there")
      ])
    }
    let movingCount = answers.filter { !$0.isShared }.count
    if let refusal = DiskSelection.refusal(
      request.disks?.method ?? .auto, movingCount: movingCount)
    {
      throw Ending.refused([refusal])
    }
    return zip(claims, answers).map { disk, answer in
      PlannedDisk(
        name: disk.claim.name, path: answer.path, bytes: disk.claim.byteCount,
        takenBytes: disk.claim.takenBytes, isShared: answer.isShared)
    }
  }

  private func sample(
    _ vm: ResolvedVM, _ monitor: Monitor, _ probe: LinkProbe, _ question: PeerMessage.PrepareRequest
  ) async throws -> GuestSample {
    guard let process = vm.process?.identity,
      let memory = try await SampledMemory.open(monitor.client, process)
    else { return try await QEMUSampler(client: monitor.client).run() }
    let sampler = GuestSampler(memory, seed: .random(in: .min ... .max))
    let result = try await sampler.run(Self.schedule)
    var question = question
    // The destination has said already what becomes of disks.
    (question.disks, question.staying) = (nil, nil)
    let wantsKnown = request.compaction != .off
    let indexes =
      wantsKnown
      ? await GuestImages.indexed(monitor.client, vm: vm.name, configuration) : []
    question.images = wantsKnown ? indexes.map(ImageClaim.init) : nil
    let (asked, filterBytesMax) = (question, configuration.memoryLimitBytes / 4)
    let threads = configuration.compactionThreadCount
    return try await WorkerThread.run("gw-known") {
      // A forecast without it is no worse than one to an agent that doesn't say.
      var known: KnownPages?
      if wantsKnown {
        known = try? probe.known(
          asked, result.contents, blocks: memory.blocks.map(\.name), indexes: indexes,
          filterBytesMax: filterBytesMax)
      }
      return GuestSample(result, of: memory, seed: sampler.seed, threads: threads, known: known)
    }
  }
}
