import BlockStore
import HostIO
import QMP

/// The images behind a qcow2 image as its header, and theirs, say: what a server of the image reads.
///
/// QEMU may have been told of others, and then it doesn't tell what the headers say.
struct BackingChain: Sendable, Hashable {
  /// The image first.
  let layers: [BlockLayer]

  /// Asks `qemu-img`; the images may be in use.
  static func read(_ path: String) async throws -> BackingChain {
    let text = try await Command.run(
      "qemu-img",
      [
        "info", "--force-share", "--backing-chain", "--output=json", "--image-opts",
        Qcow2Image.options(path),
      ])
    guard let chain = BackingChain(try JSONParser.parse(Array(text.utf8))) else {
      throw SpawnError(program: "qemu-img", detail: "tells nothing of \(path)")
    }
    return chain
  }

  /// From `qemu-img info --backing-chain`; nil: it isn't from there.
  init?(_ json: JSONValue) {
    guard let images = json.array, !images.isEmpty, images.count <= BlockLayer.countMax else {
      return nil
    }
    var layers: [BlockLayer] = []
    for image in images {
      guard let layer = BlockLayer(image) else { return nil }
      layers.append(layer)
    }
    self.layers = layers
  }

  /// Whether QEMU has the same images in the same order.
  func isSame(as other: [BlockLayer]) -> Bool {
    layers.count == other.count && zip(layers, other).allSatisfy { Self.isSame($0, $1) }
  }

  /// The node that QEMU was given for what is behind the image, when it still has it; nil: it opened that by the header.
  func namedBacking(among nodes: [BlockNode], _ lineages: [BlockLineage]) -> String? {
    guard layers.count > 1 else { return nil }
    return nodes.first { node in
      let file = lineages.first { $0.layers.first?.nodeName == node.nodeName }?
        .layers.first?.fileNodeName
      guard !node.nodeName.hasPrefix("#"), let path = nodes.first(where: { $0.nodeName == file })
      else { return false }
      return Self.isSame(
        layers[1], BlockLayer(fileName: path.fileName, format: node.driver))
    }?.nodeName
  }

  private static func isSame(_ one: BlockLayer, _ other: BlockLayer) -> Bool {
    guard one.format == other.format, let identity = try? FileStore.identity(of: one.fileName)
    else { return false }
    return identity == (try? FileStore.identity(of: other.fileName))
  }
}
