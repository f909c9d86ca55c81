import QMP

/// What is wrong with the VM at the source alone.
enum SourceChecks {
  static func check(_ source: VMFacts, request: MigrationRequest) -> [Refusal] {
    state(source) + stream(source) + devices(source) + lostPages(source) + asked(source, request)
  }

  private static func state(_ source: VMFacts) -> [Refusal] {
    var refusals: [Refusal] = []
    if MigrationStatus(source.migrationStatus).isRunning {
      refusals.append(
        Refusal(
          .migrationRunning,
          "a migration of this VM is already under way (status \(source.migrationStatus))",
          remedy: "wait for its end, or cancel it where it was started"))
    }
    let remedies: [RunState: String] = [
      .inMigrate: "it still waits for an incoming migration; name the QEMU that runs the guest",
      .postMigrate: "it has migrated away; name the QEMU that runs the guest now",
      .finishMigrate: "wait for the end of its migration",
      .saveVM: "wait until the snapshot is saved", .restoreVM: "wait until the snapshot is loaded",
      .shutdown: "start the guest again", .internalError: "reset the guest (system_reset)",
      .colo: "end COLO first",
    ]
    if let remedy = remedies[RunState(source.runState)] {
      refusals.append(
        Refusal(.runState, "the VM is in the state \"\(source.runState)\"", remedy: remedy))
    }
    return refusals
      + source.blockedReasons.map { reason in
        Refusal(
          .blockedByQEMU, "QEMU says that this VM cannot be migrated: \(reason)",
          remedy: "remove what it names from the VM (device_del), or stop using it")
      }
  }

  /// Capabilities under which pages in the stream cannot be read, with what each does.
  private static let opaque: [(name: String, does: String)] = [
    ("multifd", "sends pages over connections of its own"),
    ("compress", "compresses pages inside the stream"),
    ("xbzrle", "sends deltas that only the next reader in order can apply"),
    ("rdma-pin-all", "moves pages past the stream"),
    ("x-rdma-pin-all", "moves pages past the stream"),
    ("zero-copy-send", "needs multifd's connections"),
    ("x-colo", "replaces migration by replication"),
    ("background-snapshot", "writes a snapshot in place of a migration"),
    ("mapped-ram", "writes pages to fixed places of a file"),
    ("block", "sends disks inside the stream"),
    ("postcopy-ram", "changes the stream at the source; Godwit makes post-copy at the destination"),
    ("postcopy-preempt", "sends pages over a connection of its own"),
    ("x-ignore-shared", "leaves shared memory out of the stream"),
  ]

  private static func stream(_ source: VMFacts) -> [Refusal] {
    var refusals = opaque.filter { source.capabilities.contains($0.name) }.map { name, does in
      Refusal(
        .capability, "the migration capability \(name) is on, which \(does)",
        remedy: "switch it off: migrate_set_capability \(name) off")
    }
    if !source.tlsCreds.isEmpty {
      refusals.append(
        Refusal(
          .tlsCredentials, "QEMU would encrypt the stream (tls-creds = \(source.tlsCreds))",
          remedy: "clear it: migrate_set_parameter tls-creds \"\""))
    }
    return refusals
  }

  private static func devices(_ source: VMFacts) -> [Refusal] {
    var refusals = Set(source.iterativeDevices).sorted().map { type in
      Refusal(
        .iterativeDevice,
        "the device \(type) sends state of its own while the guest runs, which Godwit cannot follow yet",
        remedy: "unplug it (device_del) for the migration")
    }
    if source.capabilities.contains("dirty-bitmaps") {
      refusals.append(
        Refusal(
          .dirtyBitmaps,
          "the migration capability dirty-bitmaps is on, which Godwit cannot follow yet",
          remedy:
            "switch it off: migrate_set_capability dirty-bitmaps off (the next backup is a full one)"
        ))
    }
    return refusals
  }

  /// Blocks of a multiple of this many bytes take QEMU's fast path of dirty logging: 64 pages.
  static let fastPathBytes: UInt64 = 256 << 10

  /// QEMU before 9.0 loses dirty pages under TCG: its fast path does not make the translated code
  /// report the next write (fixed by QEMU commit 03bfc2188f).
  private static func lostPages(_ source: VMFacts) -> [Refusal] {
    guard !source.usesKVM, source.version < QEMUVersion(9, 0) else { return [] }
    let ids = Set(source.backends.map(\.id))
    return source.ramBlocks.filter { block in
      block.usedSize % fastPathBytes == 0
        && (ids.contains(block.name) || block.name.contains("vram"))
    }.map { block in
      let size = "\(block.usedSize >> 10) KiB"
      let odd = "\((block.usedSize >> 10) + 64)K"
      return Refusal(
        .lostDirtyPages,
        "QEMU \(source.version) loses guest writes when it migrates under TCG and a RAM block "
          + "(here \(block.name), \(size)) is a multiple of 256 KiB",
        remedy: block.name.contains("vram")
          ? "start the VM without a display device (-vga none), or use QEMU 9.0 or KVM"
          : "start the VM with a size that is not, such as \(odd), or use QEMU 9.0 or KVM")
    }
  }

  private static func asked(_ source: VMFacts, _ request: MigrationRequest) -> [Refusal] {
    var refusals: [Refusal] = []
    if !(1...64).contains(request.laneCount) {
      refusals.append(
        Refusal(
          .request, "\(request.laneCount) lanes were asked for", remedy: "ask for 1 to 64"))
    }
    if request.downtimeLimitMs == 0 {
      refusals.append(
        Refusal(.request, "no downtime at all was asked for", remedy: "allow at least 1ms"))
    }
    if request.bandwidthBytesPerSecond == 0 {
      refusals.append(
        Refusal(
          .request, "no bandwidth at all was asked for", remedy: "leave it out for no limit"))
    }
    if request.pageSource == .shared, !source.backends.contains(where: \.isShared) {
      refusals.append(
        Refusal(
          .sharedMemoryMissing, "shared pages were asked for, but the guest's RAM is not shared",
          remedy: "start the VM with memory-backend-memfd,share=on, or ask for --page-source inline"
        ))
    }
    return refusals
  }
}
