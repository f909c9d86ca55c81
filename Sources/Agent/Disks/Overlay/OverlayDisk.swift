import BlockStore
import QMP

/// A guest's qcow2 disk on its way between its image and a server that serves the same image.
///
/// The way is a line of four places, and QEMU's nodes say which one the disk is in:
///
///     file         n0 (qcow2) over f0, the image
///     overFile     go-n0, an overlay in a file of its own, over n0
///     overServer   go-n0 over gq-n0 (raw), over gq-f0 (the server)
///     server       gq-n0 over gq-f0
///
/// The node of the image's file, f0, stays for the way back. Where there is an overlay, the disk is the overlay on top of
/// the image, and only then: its file is gone before anything is written past it.
public struct OverlayDisk: Sendable, Hashable {
  /// Where on the way a disk is; in the order of the way to the server.
  public enum Place: String, Sendable, Hashable, CaseIterable {
    case file, overFile, overServer, server
  }

  static let serverPrefix = "gq-"
  static let overlayPrefix = "go-"

  public let place: Place
  /// What the qcow2 node is called when there is one.
  public let name: String
  let fileNodeName: String
  /// The image.
  public let path: String
  /// Bytes the guest can address.
  public let byteCount: UInt64
  let detectZeroes: String
  let isDirect, ignoresFlushes: Bool
  /// The images that QEMU has, the uppermost one first.
  let layers: [BlockLayer]
  /// Of the nodes above those that are there, in use or not.
  let nodes: Set<String>
  /// Of the nodes that go when the disk leaves the place where it is.
  let bitmaps: [DirtyBitmap]
  /// The server's socket and the export's name there, as far as QEMU tells them.
  public let serverSocket, serverExport: String?

  var serverName: String { Self.serverPrefix + name }
  var serverFileName: String { Self.serverPrefix + fileNodeName }
  var overlayName: String { Self.overlayPrefix + name }
  var overlayFileName: String { Self.overlayPrefix + fileNodeName }
  var overlayPath: String { ImageOverlay(of: path).path }
  /// Of the copy of what is in the overlay, and of the overlay's making.
  var jobName: String { "gj-" + name }
  var makingName: String { "gc-" + name }
  /// Whether the guest writes to an overlay.
  var isOverlaid: Bool { place == .overFile || place == .overServer }

  /// The name without what is put before it on the way.
  private static func bare(_ name: String) -> Substring {
    name.hasPrefix(serverPrefix) || name.hasPrefix(overlayPrefix)
      ? name.dropFirst(serverPrefix.count) : name[...]
  }

  /// Finds a disk by device id, node name or path, among what QEMU says; nil: none of that name is qcow2.
  ///
  /// Refuses by name what can't be taken this way.
  static func find(
    _ name: String, devices: [BlockDevice], nodes: [BlockNode], lineages: [BlockLineage]
  ) throws(GuestDiskError) -> OverlayDisk? {
    let found = devices.filter { device in
      guard let node = device.node else { return false }
      return device.isCalled(name) || bare(node.nodeName) == name
        || name.hasPrefix("/") && node.fileName == ImageOverlay(of: name).path
    }
    guard let device = found.first, let root = device.node else { return nil }
    guard root.driver == "qcow2" || root.nodeName.hasPrefix(serverPrefix) else { return nil }
    guard found.count == 1,
      let layers = lineages.first(where: {
        $0.device == device.device && $0.qdev == device.qdev
      })?.layers, let top = layers.first, top.nodeName == root.nodeName
    else { throw .ambiguous(name) }
    let format = String(bare(root.nodeName))
    let place = try place(name, format, layers)
    guard let child = top.fileNodeName.map({ String(place == .file ? $0[...] : bare($0)) }),
      isNamed(child), isNamed(root.nodeName)
    else { throw .unnamed(name) }
    guard let file = nodes.first(where: { $0.nodeName == child }) else { throw .ambiguous(name) }
    try check(name, root, file, place)
    let own = [format] + [format, child].flatMap { [serverPrefix + $0, overlayPrefix + $0] }
    let server = nodes.first { $0.nodeName == serverPrefix + child }.map(\.nbdServer)
    let going = place == .file ? [format] : [serverPrefix + format, serverPrefix + child]
    return OverlayDisk(
      place: place, name: format, fileNodeName: child, path: file.fileName,
      byteCount: root.virtualSize, detectZeroes: root.detectZeroes, isDirect: root.isDirect,
      ignoresFlushes: root.ignoresFlushes,
      layers: images(layers, nodes),
      nodes: Set(nodes.map(\.nodeName)).intersection(own),
      bitmaps: nodes.filter { going.contains($0.nodeName) }.flatMap(\.dirtyBitmaps),
      serverSocket: server?.socket,
      serverExport: server?.export)
  }

  private static func place(
    _ name: String, _ format: String, _ layers: [BlockLineage.Layer]
  ) throws(GuestDiskError) -> Place {
    if layers[0].nodeName == format { return .file }
    if layers[0].nodeName == serverPrefix + format { return .server }
    switch layers.count > 1 ? layers[1].nodeName : "" {
    case format: return .overFile
    case serverPrefix + format: return .overServer
    default: throw .ambiguous(name)
    }
  }

  /// By the files that have them: an image that was given another one to stand on has no path of its own in QEMU.
  private static func images(
    _ layers: [BlockLineage.Layer], _ nodes: [BlockNode]
  ) -> [BlockLayer] {
    layers.map { layer in
      let format = nodes.first { $0.nodeName == layer.nodeName }
      let file = nodes.first { $0.nodeName == layer.fileNodeName }
      return BlockLayer(fileName: file?.fileName ?? "", format: format?.driver ?? "")
    }
  }

  /// A name that its owner gave, short enough for one of ours to begin otherwise.
  private static func isNamed(_ node: String) -> Bool {
    !node.isEmpty && !node.hasPrefix("#")
      && bare(node).utf8.count + serverPrefix.utf8.count <= GuestDisk.nodeNameMax
  }

  private static func check(
    _ name: String, _ root: BlockNode, _ file: BlockNode, _ place: Place
  ) throws(GuestDiskError) {
    guard file.driver == "file", file.fileName.hasPrefix("/") else {
      throw .notInAFile(name, driver: file.driver)
    }
    guard place == .file else { return }
    guard !root.isReadOnly else { throw .readOnly(name) }
    guard root.dataFile == nil else { throw .partOfFile(name) }
  }
}
