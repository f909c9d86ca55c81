import QMP

/// Where RAM blocks lie in QEMU's own address space.
enum HostAddresses {
  /// Addresses by block name. QEMU 8.0 and later list them; before, they are asked for through a
  /// guest address, which blocks without one (ROMs that are switched off) do not have.
  static func find(
    _ blocks: [RAMBlockInfo], _ client: QMPClient
  ) async throws -> [String: UInt64] {
    var addresses: [String: UInt64] = [:]
    for block in blocks { addresses[block.name] = block.hostAddress }
    let missing = blocks.filter { addresses[$0.name] == nil }
    guard !missing.isEmpty else { return addresses }
    let ranges = try await client.guestRAMRanges()
    for block in missing {
      guard let range = ranges.first(where: { $0.blockName == block.name }),
        let address = try await client.hostAddress(ofGuestAddress: range.guestAddress),
        address >= range.blockOffset
      else { continue }
      addresses[block.name] = address - range.blockOffset
    }
    return addresses
  }
}
