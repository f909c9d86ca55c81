import QMP

/// A guest's disk that `godwit block attach` put behind a server, as the guest's QEMU says.
struct AttachedDisk: Sendable, Equatable {
  /// Of the node that the guest's device had before.
  var name: String
  /// What the server serves.
  var image: String
  /// The guest sees what is in the image, not the image itself.
  var isQcow2 = false
  /// The server's socket for clients, and the export's name there, which may be empty.
  var socket, export: String

  /// Where the server takes orders, unless whoever started it wanted another place.
  var control: String { socket + BlockClient.suffix }

  /// Of a guest, by `VMFacts.Disk.device`.
  static func all(_ client: QMPClient) async throws -> [String: AttachedDisk] {
    let nodes = try await client.queryBlockNodes()
    guard nodes.contains(where: { $0.driver == "nbd" }) else { return [:] }
    return find(try await client.queryBlock(), nodes, try await client.queryBlockLineages())
  }

  /// Those that are behind a server for good; one that is on its way is not.
  static func find(
    _ devices: [BlockDevice], _ nodes: [BlockNode], _ lineages: [BlockLineage]
  ) -> [String: AttachedDisk] {
    var found: [String: AttachedDisk] = [:]
    for device in devices {
      guard let node = device.node, let name = VMFacts.Disk.device(device) else { continue }
      found[name] =
        raw(node.nodeName, devices, nodes) ?? qcow2(node.nodeName, devices, nodes, lineages)
    }
    return found
  }

  private static func raw(
    _ node: String, _ devices: [BlockDevice], _ nodes: [BlockNode]
  ) -> AttachedDisk? {
    // What can't be put there isn't there.
    guard let disk = try? GuestDisk.find(node, devices: devices, nodes: nodes),
      disk.place == .server, let socket = disk.serverSocket
    else { return nil }
    return AttachedDisk(
      name: disk.name, image: disk.path, socket: socket, export: disk.serverExport ?? "")
  }

  private static func qcow2(
    _ node: String, _ devices: [BlockDevice], _ nodes: [BlockNode], _ lineages: [BlockLineage]
  ) -> AttachedDisk? {
    guard
      let disk = try? OverlayDisk.find(
        node, devices: devices, nodes: nodes, lineages: lineages),
      disk.place == .server, let socket = disk.serverSocket
    else { return nil }
    return AttachedDisk(
      name: disk.name, image: disk.path, isQcow2: true, socket: socket,
      export: disk.serverExport ?? "")
  }
}
