import QMP

/// What does not fit between source and destination.
enum PairChecks {
  static func check(_ source: VMFacts, _ destination: VMFacts) -> [Refusal] {
    state(destination) + machine(source, destination) + cpu(source, destination)
      + ram(source, destination) + disks(source, destination)
  }

  private static func state(_ destination: VMFacts) -> [Refusal] {
    guard destination.runState != RunState.inMigrate.name || destination.isRunning else {
      return []
    }
    return [
      Refusal(
        .destinationState,
        "the QEMU at the destination does not wait for a migration (state \(destination.runState))",
        remedy: "let the agent start it, from a definition")
    ]
  }

  private static func machine(_ source: VMFacts, _ destination: VMFacts) -> [Refusal] {
    var refusals: [Refusal] = []
    if source.usesKVM != destination.usesKVM {
      refusals.append(
        Refusal(
          .accelerator,
          "the source runs under \(accelerator(source)), the destination under "
            + accelerator(destination),
          remedy: "use the same accelerator on both sides"))
    }
    if source.machineType != destination.machineType {
      let known = destination.knownMachineTypes.contains(source.machineType)
      refusals.append(
        Refusal(
          .machineType,
          "the machine type is \(source.machineType) at the source (QEMU \(source.version)) and "
            + "\(destination.machineType) at the destination (QEMU \(destination.version))",
          remedy: known
            ? "write -machine \(source.machineType) into the definition at the destination"
            : "QEMU \(destination.version) does not have it: install a QEMU that does, at least the "
              + "source's version"))
    } else if !isVersioned(source.machineType), !isSameSeries(source.version, destination.version) {
      refusals.append(
        Refusal(
          .machineType,
          "the machine type \(source.machineType) has no versions, so QEMU \(source.version) and "
            + "\(destination.version) need not agree on it",
          remedy: "use the same QEMU version on both sides, or a versioned machine type"))
    }
    let zero = "00000000-0000-0000-0000-000000000000"
    if source.uuid != destination.uuid, source.uuid != zero, destination.uuid != zero {
      refusals.append(
        Refusal(
          .uuid, "the VM's UUID is \(source.uuid), the destination's is \(destination.uuid)",
          remedy: "correct -uuid in the definition at the destination, or name the right VM"))
    }
    return refusals
  }

  private static func accelerator(_ facts: VMFacts) -> String { facts.usesKVM ? "KVM" : "TCG" }

  private static func isSameSeries(_ a: QEMUVersion, _ b: QEMUVersion) -> Bool {
    (a.major, a.minor) == (b.major, b.minor)
  }

  /// `pc-i440fx-7.2`, `pc-q35-rhel9.4.0`: ends in digits with a dot.
  static func isVersioned(_ machineType: String) -> Bool {
    guard let last = machineType.split(separator: "-").last else { return false }
    return last.contains(".") && last.last?.isNumber == true
  }

  private static func cpu(_ source: VMFacts, _ destination: VMFacts) -> [Refusal] {
    var refusals: [Refusal] = []
    if source.cpuCount != destination.cpuCount {
      refusals.append(
        Refusal(
          .cpuCount,
          "the guest has \(source.cpuCount) vCPUs, the destination \(destination.cpuCount)",
          remedy: "correct -smp in the definition at the destination"))
    }
    if let from = source.cpuType, let to = destination.cpuType, from != to {
      refusals.append(
        Refusal(
          .cpuModel,
          "the CPU model is \(model(from)) at the source and \(model(to)) at the destination",
          remedy: "write -cpu \(model(from)) into the definition at the destination"))
      return refusals  // the features differ for that reason
    }
    let missing = missingFeatures(source, destination)
    if !missing.isEmpty {
      refusals.append(
        Refusal(
          .cpuFeatures,
          "the guest uses CPU features that the destination lacks: "
            + missing.prefix(4).joined(separator: ", ")
            + (missing.count > 4 ? " and \(missing.count - 4) more" : ""),
          remedy:
            "give the VM a CPU model that both hosts have, or choose a host with a CPU like the "
            + "source's"))
    }
    return refusals
  }

  private static func model(_ type: String) -> String {
    for suffix in ["-x86_64-cpu", "-i386-cpu", "-arm-cpu"] where type.hasSuffix(suffix) {
      return String(type.dropLast(suffix.count))
    }
    return type
  }

  /// Features the guest has seen and would miss, as CPUID words with the missing bits.
  private static func missingFeatures(_ source: VMFacts, _ destination: VMFacts) -> [String] {
    guard !source.cpuFeatures.isEmpty, !destination.cpuFeatures.isEmpty else { return [] }
    return source.cpuFeatures.compactMap { word in
      let other = destination.cpuFeatures.first {
        $0.leaf == word.leaf && $0.subleaf == word.subleaf && $0.register == word.register
      }
      let bits = word.bits & ~(other?.bits ?? 0) & ~topologyBits(word)
      guard bits != 0 else { return nil }
      let leaf = String(word.leaf, radix: 16)
      return "CPUID 0x\(leaf) \(word.register) bits 0x\(String(bits, radix: 16))"
    }
  }

  /// Bits that follow from the number of cores, not from the CPU: HTT and CMP_LEGACY. QEMU 10 lists
  /// them among the features, 7.2 shows them to the guest without listing them.
  private static func topologyBits(_ word: CPUFeatureWord) -> UInt64 {
    switch (word.leaf, word.register) {
    case (1, "EDX"): 1 << 28
    case (0x8000_0001, "ECX"): 1 << 1
    default: 0
    }
  }

  private static func ram(_ source: VMFacts, _ destination: VMFacts) -> [Refusal] {
    func index(_ facts: VMFacts) -> [String: VMFacts.RAMBlock] {
      Dictionary(facts.ramBlocks.map { ($0.name, $0) }) { first, _ in first }
    }
    let (from, to) = (index(source), index(destination))
    var refusals: [Refusal] = []
    for name in Set(from.keys).union(to.keys).sorted() {
      switch (from[name], to[name]) {
      case (let block?, nil):
        refusals.append(
          Refusal(
            .ramBlocks,
            "the RAM block \(name) (\(block.usedSize >> 10) KiB) is missing at the destination",
            remedy: "give the destination the same devices and memory backends, with the same ids"))
      // Tables that firmware may fetch; QEMU makes them when it needs them.
      case (nil, let block?) where !name.hasPrefix("/rom@"):
        refusals.append(
          Refusal(
            .ramBlocks,
            "the destination has a RAM block \(name) (\(block.usedSize >> 10) KiB) that the source lacks",
            remedy: "give the destination the same devices and memory backends, with the same ids"))
      case (let block?, let other?) where block.usedSize != other.usedSize:
        // Tables grow and shrink with the stream, up to what is reserved for them.
        if name.hasPrefix("/rom@"), block.usedSize <= other.totalSize { continue }
        refusals.append(
          Refusal(
            .ramBlocks,
            "the RAM block \(name) has \(block.usedSize >> 10) KiB at the source and "
              + "\(other.usedSize >> 10) KiB at the destination",
            remedy: "use the same -m, memory backends and firmware on both sides"))
      default: continue
      }
    }
    return refusals
  }

  private static func disks(_ source: VMFacts, _ destination: VMFacts) -> [Refusal] {
    source.disks.compactMap { disk in
      guard let other = destination.disks.first(where: { $0.device == disk.device }) else {
        return Refusal(
          .disks, "the disk of \(disk.device) (\(disk.fileName)) is missing at the destination",
          remedy: "add it to the definition there, with the same device id")
      }
      if disk.virtualSize != other.virtualSize {
        return Refusal(
          .disks,
          "the disk of \(disk.device) has \(disk.virtualSize) bytes at the source (\(disk.fileName)) and "
            + "\(other.virtualSize) at the destination (\(other.fileName))",
          remedy: "attach the same image on both sides (shared storage)")
      }
      guard disk.isReadOnly || !other.isReadOnly else {
        return Refusal(
          .disks, "the disk of \(disk.device) is read-only at the destination (\(other.fileName))",
          remedy: "make it writable in the definition there")
      }
      return nil
    }
  }
}
