import Compaction
import FoundationEssentials
import HostIO
import QMP

/// What a source says of an image that it has an index of: enough to see how far the destination's is the same.
struct ImageClaim: Codable, Sendable, Equatable {
  /// Of the image, `ImageLimits.regionBlocks` blocks each.
  var regions: Int
  /// `ImageParts`, 8 bytes each.
  var parts: Data

  init(_ stored: StoredIndex) {
    regions = stored.index.regions.count
    parts = Data(ImageParts(stored.index.regions).bytes)
  }
}

/// What a destination answers: it has the image of the claim with this number, and these parts of it are the same.
struct ImageMatch: Codable, Sendable, Equatable {
  var claim: Int
  /// A bit each, see `ImageParts.same`.
  var same: Data
}

/// Finds the images that a guest has attached, those behind them, and those that the operator named for it, as far as
/// this host has indexes of them.
enum GuestImages {
  /// Never fails: without indexes pages go another way.
  static func indexed(
    _ client: QMPClient, vm: String, _ configuration: AgentConfiguration
  ) async -> [StoredIndex] {
    let folder = IndexFolder(stateDirectory: configuration.stateDirectory)
    guard let devices = try? await client.queryBlock() else { return [] }
    var images: [(path: String, format: String?)] = []
    for layer in devices.flatMap({ $0.node?.layers ?? [] }) where layer.fileName.hasPrefix("/") {
      images.append((layer.fileName, layer.format))
    }
    for path in SharedImages.images(configuration.sharedImages, for: vm) {
      images.append((path, nil))
    }
    let all = images
    return (try? await Blocking.run { load(all, folder) }) ?? []
  }

  /// The same before there is a QEMU to ask: of images that its arguments name, and of those behind them. Blocks.
  ///
  /// What is behind an image its own header says, and only where the operator had it indexed as qcow2: a guest can write
  /// any header into a raw disk.
  static func indexed(
    _ launch: QEMULaunch, vm: String, _ configuration: AgentConfiguration
  ) -> [StoredIndex] {
    let folder = IndexFolder(stateDirectory: configuration.stateDirectory)
    let paths =
      LaunchArguments(launch.arguments).paths
      + SharedImages.images(configuration.sharedImages, for: vm)
    var found = load(paths.map { ($0, nil) }, folder)
    var next = 0
    while next < found.count, found.count < PeerMessageLimits.imagesMax {
      let index = found[next].index
      next += 1
      guard index.format == .qcow2, let backing = ImageLayer.backing(of: index.path) else {
        continue
      }
      let behind = load([(backing.path, backing.format.name)], folder)
      found += behind.filter { new in !found.contains { $0.index.path == new.index.path } }
    }
    return found
  }

  /// The indexes of these images, each once, where they are of that format (nil: of any). Blocks.
  static func load(
    _ images: [(path: String, format: String?)], _ folder: IndexFolder
  ) -> [StoredIndex] {
    var seen: Set<String> = []
    var found: [StoredIndex] = []
    for image in images {
      guard found.count < PeerMessageLimits.imagesMax,
        let path = ImageFile.realPath(image.path), seen.insert(path).inserted,
        let stored = folder.load(path),
        image.format == nil || image.format == stored.index.format.name
      else { continue }
      found.append(stored)
    }
    return found
  }
}
