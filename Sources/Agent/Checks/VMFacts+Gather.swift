public import QMP

extension VMFacts {
  /// Asks a QEMU everything that `PrepareChecks` needs.
  public static func gather(_ client: QMPClient) async throws -> VMFacts {
    let status = try await client.queryStatus()
    let cpus = try await client.queryCPUsFast()
    let migration = try await client.queryMigrate()
    let blocks = try await client.ramBlocks()
    var facts = VMFacts(
      version: try await client.queryVersion(),
      usesKVM: try await client.queryKVM().isEnabled,
      machineType: try await client.currentMachineType(),
      uuid: try await client.queryUUID(),
      runState: status.state.name, isRunning: status.isRunning, cpuCount: cpus.count,
      ramBlocks: blocks.map {
        RAMBlock(
          name: $0.name, usedSize: $0.usedSize, totalSize: $0.totalSize, pageSize: $0.pageSize)
      }.sorted { $0.name < $1.name },
      migrationStatus: migration.status.name)
    facts.name = try await client.queryName()
    facts.blockedReasons = migration.blockedReasons
    facts.knownMachineTypes = try await client.queryMachines().map(\.name).sorted()
    if let cpu = cpus.first {
      facts.cpuType = try await client.qomGet(path: cpu.qomPath, property: "type").string
      // Other CPUs than x86's have no such property.
      facts.cpuFeatures = (try? await client.cpuFeatureWords(qomPath: cpu.qomPath)) ?? []
    }
    facts.backends = try await client.queryMemoryBackends().map {
      Backend(id: $0.id, size: $0.size, isShared: $0.isShared)
    }
    try await facts.gatherDisks(client)
    try await facts.gatherMigrationSettings(client)
    facts.iterativeDevices = try await iterativeDevices(client)
    return facts
  }

  private mutating func gatherDisks(_ client: QMPClient) async throws {
    disks = try await client.queryBlock().compactMap { device in
      guard let node = device.node, let name = Disk.device(device) else { return nil }
      return Disk(
        device: name, nodeName: node.nodeName, driver: node.driver, fileName: node.fileName,
        virtualSize: node.virtualSize, isReadOnly: node.isReadOnly)
    }
    dirtyBitmaps = try await client.queryBlockNodes().flatMap { $0.dirtyBitmaps.map(\.name) }
  }

  private mutating func gatherMigrationSettings(_ client: QMPClient) async throws {
    let all = try await client.queryMigrateCapabilities()
    capabilities = all.enabled
    knownCapabilities = all.states.keys.sorted()
    let parameters = try await client.queryMigrateParameters()
    tlsCreds = parameters.tlsCreds
    multifdCompression = parameters["multifd-compression"]?.string
  }

  /// Types of the devices whose state is sent while the guest runs, from the machine's own tree.
  private static func iterativeDevices(_ client: QMPClient) async throws -> [String] {
    var found: [String] = []
    for folder in ["/machine/peripheral", "/machine/peripheral-anon"] {
      for property in try await client.qomList(path: folder) {
        // `child<vfio-pci>`
        guard property.type.hasPrefix("child<"), property.type.hasSuffix(">") else { continue }
        let type = property.type.dropFirst("child<".count).dropLast()
        if type.hasPrefix("vfio-") || type.hasPrefix("virtio-mem") { found.append(String(type)) }
      }
    }
    return found.sorted()
  }
}

extension VMFacts.Disk {
  /// Where the guest finds a disk; nil: the device has none.
  static func device(_ device: BlockDevice) -> String? {
    guard let node = device.node else { return nil }
    return device.device.isEmpty ? device.qdev ?? node.nodeName : device.device
  }
}
