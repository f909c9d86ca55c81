import Agent
import BlockStore
import FoundationEssentials
import Glibc
import HostIO

/// Images that are open, and what runs underneath them.
struct OpenImages: Sendable {
  var disks: [ServedDisk] = []
  /// The same, as what can be moved.
  private(set) var movable: [(name: String, store: MovableStore)] = []
  private var children: [Qcow2Image] = []
  private var lent: [LentImage] = []

  /// Opens all images or none.
  ///
  /// - Parameters:
  ///   - bitmaps: dirty bitmaps that each qcow2 image has, for moves.
  ///   - maps: folder for the maps of moves; nil: beside each image.
  ///   - certificates: folder of what TLS with a destination needs.
  ///   - trustsSource: disks that are pulled have the source they had, whatever it says of itself now.
  ///   - trustsDestination: the same of the destination of disks that have moved.
  static func open(
    _ images: [(path: String, name: String)], format: BlockServeCommand.ImageFormat?,
    _ options: FileStore.Options, bitmaps: [String], maps: String?,
    certificates: String, trustsSource: Bool, trustsDestination: Bool
  ) async throws -> OpenImages {
    var opened = OpenImages()
    do {
      for (index, image) in images.enumerated() {
        let store: any DiskStore
        switch format {
        case .raw, nil:
          let file = try FileStore(path: image.path, options)
          if format == nil, try await isQcow2(file) {
            throw ControlError(
              .usage, "\(image.path) begins like a qcow2 image: say --format qcow2")
          }
          store = file
        case .qcow2 where options.isInUse:
          try await checkIsAlive(image.path)
          let image = try await LentImage.find(
            image.path, bitmaps: bitmaps, in: folder(index))
          opened.lent.append(image)
          store = image
        case .qcow2:
          try checkIsWhole(image.path)
          let child = try await Qcow2Image.open(
            image.path, options.isReadOnly ? .readOnly : .locked, bitmaps: bitmaps,
            in: folder(index))
          opened.children.append(child)
          store = child.store
        }
        let identity = try FileStore.identity(of: image.path)
        let pulled = try await withPull(
          store, image,
          format == .qcow2 ? nil : try MapPlace.ofPull(image.path, maps: maps),
          identity, certificates, trustsSource)
        let place = try MapPlace.ofMove(image.path, maps: maps)
        let movable = try MovableStore(
          pulled, name: image.name, identity: place.identity, mapPath: place.path,
          resolve: { try resolve($0, certificates) },
          findSurrogate: { try BlockSurrogate.find($0, certificates) },
          trustsDestination: trustsDestination
        ) { Output.error($0) }
        opened.movable.append((image.name, movable))
        opened.disks.append(
          ServedDisk(
            name: image.name, description: try ExportIdentity.of(image.path), store: movable))
      }
    } catch {
      await opened.close()
      throw error
    }
    return opened
  }

  func close() async {
    for child in children { await child.close() }
    for image in lent { await image.close() }
  }

  /// An image whose guest died on its way to or from a server isn't the disk alone.
  private static func checkIsWhole(_ path: String) throws {
    let overlay = ImageOverlay(of: path)
    guard overlay.holdsSomething else { return }
    throw isHalf(path, overlay)
  }

  /// The same of an image that its guest has.
  private static func checkIsAlive(_ path: String) async throws {
    let overlay = ImageOverlay(of: path)
    guard try await WorkerThread.run("block-look", { overlay.isOrphaned() }) else { return }
    throw isHalf(path, overlay)
  }

  private static func isHalf(_ path: String, _ overlay: ImageOverlay) -> ControlError {
    ControlError(
      .refused,
      "\(overlay.path) is there: the disk is that on top of \(path). Put it in with \"qemu-img commit \(overlay.path)\", and remove "
        + "it; or, if the guest has been used from \(path) since, remove it")
  }

  /// No request comes any more: moves can be gone on with by the next server.
  func suspendMoves() { for disk in movable { disk.store.suspendMove() } }

  /// Goes on with a pull that an earlier server began; waits for its source.
  private static func withPull(
    _ store: any DiskStore, _ image: (path: String, name: String), _ place: MapPlace?,
    _ identity: String, _ certificates: String, _ trustsSource: Bool
  ) async throws -> PulledStore {
    let name = image.name
    return try await WorkerThread.run("block-pull") {
      try PulledStore(
        store, name: name, identity: place?.identity ?? identity, path: place?.path,
        resolve: { try resolve($0, certificates) }, trustsSource: trustsSource
      ) { Output.error($0) }
    }
  }

  /// The destination that an earlier server moved a disk to, or pulled it from.
  private static func resolve(
    _ uri: String, _ certificates: String
  ) throws -> MoveDestination {
    guard let address = NBDAddress(uri) else {
      throw ControlError(
        .failed, "the disk, or some of it, is at \(TerminalText.plain(uri)), which can't be read")
    }
    return address.destination(certificates)
  }

  private static func folder(_ index: Int) -> String {
    ControlSocket.defaultFolder + "/block-\(getpid())-\(index)"
  }

  /// A guest could have written that itself, so the image is never taken for what it says.
  private static func isQcow2(_ file: FileStore) async throws -> Bool {
    let count = Int(min(file.byteCount, 4096))
    guard count >= 4 else { return false }
    return try await WorkerThread.run("block-look") {
      let buffer = PageBuffer(byteCount: count)
      // SAFETY: the buffer is this closure's own.
      try unsafe file.read(at: 0, into: buffer.part(0, count))
      return unsafe Array(buffer.part(0, 4)) == [0x51, 0x46, 0x49, 0xFB]
    }
  }
}
