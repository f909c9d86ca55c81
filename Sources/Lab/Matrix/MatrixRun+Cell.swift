import Agent
import Base
import HostIO

/// What a cell of a scenario means for one trial: options, and what results that may be compared have in common.
extension MatrixRun {
  func guest(_ cell: MatrixCell) throws -> MatrixGuest {
    guard let guest = scenario.guests.first(where: { $0.name == cell.guest }) else {
      throw LabError("\(scenario.name) has no guest \(cell.guest)")
    }
    return guest
  }

  func disk(_ cell: MatrixCell) throws -> MatrixDisk {
    guard let disk = scenario.disks.first(where: { $0.name == cell.guest }) else {
      throw LabError("\(scenario.name) has no disk \(cell.guest)")
    }
    return disk
  }

  /// Guests or disks that are moved at once.
  func count(_ cell: MatrixCell) throws -> Int {
    scenario.kind == .disk ? try disk(cell).count : try guest(cell).count
  }

  func options(for cell: MatrixCell) throws -> LabOptions {
    var options = common
    options.scenario = scenario.name
    if scenario.kind == .guest {
      let guest = try guest(cell)
      options.guestCount = guest.count
      (options.guest, options.clients) = (guest.specification, guest.clients)
      (options.movesDisk, options.servesDisk) = (guest.movesDisk, guest.servesDisk)
    }
    (options.linkRate, options.linkLatencyMs) = (scenario.link, scenario.linkLatencyMs)
    options.competingRate = scenario.competing
    options.methods = [cell.method]
    options.audit = false
    (options.timeoutMs, options.downtimeLimitMs) = (scenario.timeoutMs, scenario.downtimeLimitMs)
    (options.warmUpMs, options.pageSource) = (scenario.warmUpMs, scenario.pageSource)
    options.returnAfterMs = scenario.returnAfterMs
    options.tuning.merge(try scenario.tuning(of: cell.method))
    if let own = options.tuning.downtimeLimitMs { options.downtimeLimitMs = own }
    if let own = options.tuning.pageSource { options.pageSource = own }
    guard let qemu = QEMUChoice(cell.qemu) else {
      throw LabError("qemu: \"\(cell.qemu)\" names no QEMU")
    }
    options.sourceQEMU = QEMUChoice.path(qemu.source)
    options.destinationQEMU = QEMUChoice.path(qemu.destination)
    return options
  }

  func fingerprint(_ cell: MatrixCell) throws -> String {
    let rest = [
      scenario.timeoutMs, scenario.downtimeLimitMs, scenario.warmUpMs,
      scenario.link?.bytesPerSecond ?? HostPair.defaultLinkBytesPerSecond,
    ]
    let others =
      (scenario.competing.map { ["beside \($0.bytesPerSecond) from the warm-up on"] } ?? [])
      + (scenario.linkLatencyMs > 0 ? ["\(scenario.linkLatencyMs) ms each way"] : [])
    guard scenario.kind == .guest else {
      let tuning =
        cell.method.tuning == nil ? [] : [try scenario.tuning(of: cell.method).fingerprint]
      return CacheFolder.key(
        ["\(try disk(cell))", "\(rest)", "\(common.forceLoopback)"] + others + tuning)
    }
    let guest = try guest(cell)
    return CacheFolder.key(
      [
        "\(guest.specification)", "\(guest.clients)", "\(rest)", "\(scenario.pageSource)",
        "\(common.insecure) \(common.forceLoopback)",
        "a beat each \(GuestSpecification.Workload.heartbeatMs) ms",
        try options(for: cell).tuning.fingerprint,
      ] + (scenario.returnAfterMs.map { ["return after \($0)"] } ?? [])
        + (guest.count > 1 ? ["\(guest.count) at once"] : [])
        + (guest.movesDisk ? ["its disk moves"] : [])
        + (guest.servesDisk ? ["behind a server"] : []) + others)
  }

  func facts(
    _ cell: MatrixCell, _ options: LabOptions, _ hosts: HostPair, _ build: LabBuild
  ) throws -> MatrixResult.Facts {
    let isGuest = scenario.kind == .guest
    return MatrixResult.Facts(
      method: cell.method.name, cell: cell.key, block: cell.block, guest: cell.guest,
      qemu: cell.qemu, round: cell.round, seed: scenario.seed, fingerprint: try fingerprint(cell),
      godwit: GodwitVersion.current.godwit, commit: build.commit,
      programSHA256: build.programSHA256, host: HostFacts.read(),
      linkBytesPerSecond: hosts.linkBytesPerSecond,
      linkLatencyMs: hosts.linkLatencyMs > 0 ? hosts.linkLatencyMs : nil,
      network: hosts.kind == .namespaces ? "namespaces" : "loopback",
      accelerator: isGuest ? options.guest.accelerator.rawValue : nil,
      dirtyMiBPerSecond: isGuest ? options.guest.workload.dirtyMiBPerSecond : nil,
      workingSetBytes: isGuest ? options.guest.workingSetBytes : 0, timeoutMs: options.timeoutMs)
  }
}
