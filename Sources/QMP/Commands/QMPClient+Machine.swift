/// Running, stopping and looking at the machine.
extension QMPClient {
  /// `query-status`. Throws `unexpectedReply` without a state; one that isn't known is
  /// `RunState.unknown`.
  public func queryStatus(timeoutMs: UInt64? = nil) async throws(QMPError) -> VMStatus {
    try await query("query-status", timeoutMs: timeoutMs) { reply in
      guard let state = reply["status"]?.string, let running = reply["running"]?.bool else {
        return nil
      }
      return VMStatus(state: RunState(state), isRunning: running)
    }
  }

  /// Lets the vCPUs run. Refused where the run state doesn't allow it; before an incoming migration
  /// is over QEMU only notes that the guest is to run then.
  public func cont() async throws(QMPError) { try await execute("cont") }
  /// Stops the vCPUs; returns when they stand. A guest that stands already is no error.
  public func stop() async throws(QMPError) { try await execute("stop") }

  /// Ends QEMU. It may close the connection before or after its reply; either is success.
  public func quit() async throws(QMPError) {
    do { try await execute("quit") } catch  where error.isDisconnected { return }
  }

  public func queryVersion() async throws(QMPError) -> QEMUVersion {
    try await query("query-version") { QEMUVersion($0) }
  }

  /// The name given with `-name`; nil without one.
  public func queryName() async throws(QMPError) -> String? {
    try await query("query-name") { $0.object == nil ? nil : .some($0["name"]?.string) }
  }

  /// All zeroes when none was given.
  public func queryUUID() async throws(QMPError) -> String {
    try await query("query-uuid") { $0["UUID"]?.string }
  }

  /// Whether the guest runs under KVM, and whether this QEMU has KVM at all.
  public func queryKVM() async throws(QMPError) -> KVMState {
    try await query("query-kvm") { reply in
      guard let enabled = reply["enabled"]?.bool, let present = reply["present"]?.bool else {
        return nil
      }
      return KVMState(isEnabled: enabled, isPresent: present)
    }
  }

  /// One entry per vCPU that is plugged; doesn't disturb them, unlike the old `query-cpus`.
  public func queryCPUsFast() async throws(QMPError) -> [VCPU] {
    try await queryList("query-cpus-fast", decode: VCPU.init)
  }

  /// Objects of the kinds `memory-backend-…`; that which QEMU makes for `-m` by itself may be among
  /// them.
  public func queryMemoryBackends() async throws(QMPError) -> [MemoryBackend] {
    try await queryList("query-memdev", decode: MemoryBackend.init)
  }

  /// Bytes of base memory plus plugged memory.
  public func queryMemorySize() async throws(QMPError) -> UInt64 {
    try await query("query-memory-size-summary") { reply in
      guard let base = reply["base-memory"]?.uint64 else { return nil }
      let (total, overflow) = base.addingReportingOverflow(reply["plugged-memory"]?.uint64 ?? 0)
      return overflow ? nil : total
    }
  }

  /// Kinds of memory devices (`dimm`, `nvdimm`, `virtio-mem`, …), one per device.
  public func queryMemoryDevices() async throws(QMPError) -> [String] {
    try await queryList("query-memory-devices") { $0["type"]?.string }
  }

  /// All machine types that this QEMU has, not only the one in use.
  public func queryMachines() async throws(QMPError) -> [MachineType] {
    try await queryList("query-machines", decode: MachineType.init)
  }

  /// The machine type in use with aliases resolved, such as `pc-i440fx-7.2`.
  public func currentMachineType() async throws(QMPError) -> String {
    let type = try await qomGet(path: "/machine", property: "type").string
    guard let type else { throw QMPError(.unexpectedReply, command: "qom-get") }
    return type.hasSuffix("-machine") ? String(type.dropLast("-machine".count)) : type
  }

  /// Properties of CPU model `name` with its defaults, fully expanded.
  public func queryCPUModelExpansion(
    name: String, type: String = "full"
  ) async throws(QMPError) -> [String: JSONValue] {
    try await query(
      "query-cpu-model-expansion",
      ["type": .string(type), "model": ["name": .string(name)]]
    ) { $0["model"]?["props"]?.object }
  }

  /// Throws `refused` where the object or its property doesn't exist, or can't be read.
  public func qomGet(path: String, property: String) async throws(QMPError) -> JSONValue {
    try await execute("qom-get", ["path": .string(path), "property": .string(property)])
  }

  /// Properties of the object at `path`, those that are children or links included.
  public func qomList(path: String) async throws(QMPError) -> [ObjectProperty] {
    try await queryList("qom-list", ["path": .string(path)], decode: ObjectProperty.init)
  }

  /// CPUID as the guest sees it, sorted; empty for CPUs without it.
  public func cpuFeatureWords(qomPath: String) async throws(QMPError) -> [CPUFeatureWord] {
    let words = try await qomGet(path: qomPath, property: "feature-words").array ?? []
    return words.compactMap(CPUFeatureWord.init).sorted()
  }

  /// All nodes by name, filters and protocol layers included; backing chains are not nested.
  public func queryBlockNodes() async throws(QMPError) -> [BlockNode] {
    // "flat": without the images of the backing chain nested in each other.
    try await queryList("query-named-block-nodes", ["flat": true], decode: BlockNode.init)
  }

  /// The guest's drives, with or without a medium, and the node at the top of each.
  public func queryBlock() async throws(QMPError) -> [BlockDevice] {
    try await queryList("query-block", decode: BlockDevice.init)
  }

  /// The backends, monitors among them; not the devices that the guest has of them.
  public func queryCharacterDevices() async throws(QMPError) -> [CharacterDevice] {
    try await queryList("query-chardev", decode: CharacterDevice.init)
  }

  /// Names of all commands this QEMU has.
  public func queryCommands() async throws(QMPError) -> Set<String> {
    Set(try await queryList("query-commands") { $0["name"]?.string })
  }

  /// Runs a command of the human monitor; for what QMP does not have. No quoting is done.
  public func humanMonitor(_ commandLine: String) async throws(QMPError) -> String {
    try await query("human-monitor-command", ["command-line": .string(commandLine)]) { $0.string }
  }

  /// From `info ramblock`, which has no stable form: a line that isn't understood is left out, so
  /// that an empty list means that nothing was. At most `RAMBlockInfo.countMax`.
  public func ramBlocks() async throws(QMPError) -> [RAMBlockInfo] {
    RAMBlockInfo.parse(try await humanMonitor("info ramblock"))
  }

  /// From `info mtree -f`, which has no stable form: what isn't understood is left out. One block
  /// may have several ranges, as around the PCI hole of a PC.
  public func guestRAMRanges() async throws(QMPError) -> [GuestRAMRange] {
    GuestRAMRange.parse(try await humanMonitor("info mtree -f"))
  }

  /// Address in QEMU of one byte of guest memory; nil when no RAM is there.
  public func hostAddress(ofGuestAddress address: UInt64) async throws(QMPError) -> UInt64? {
    // "Host virtual address for 0x100000 (mem0) is 0x7f3a5e1ff000"
    let text = try await humanMonitor("gpa2hva 0x" + String(address, radix: 16))
    guard let word = text.split(whereSeparator: \.isWhitespace).last, word.hasPrefix("0x") else {
      return nil
    }
    return UInt64(word.dropFirst(2), radix: 16)
  }
}
