import Base
import Compaction
import HostIO

/// Why an image cannot be indexed, or an index cannot be used. Each text says what to do, where something can be
/// done.
public enum ImageIndexError: Error, Sendable, CustomStringConvertible {
  case missing(String)
  case looksLikeQcow2(String)
  case refused(String, String)
  case backingFormatUnknown(String, backing: String)
  case backingIsNoFile(String, backing: String)
  case tooManyLayers(String)
  case tooLarge(String)
  case busy(String)
  case notIndexed(String)

  public var description: String {
    switch self {
    case .missing(let path): "\(path): there is no such file"
    case .looksLikeQcow2(let path):
      "\(path) begins like a qcow2 image: say --format qcow2, or --format raw if it is a guest's raw disk"
    case .refused(let path, let reason): "\(path): \(reason)"
    case .backingFormatUnknown(let path, let backing):
      "\(path) does not say the format of \(backing) behind it; qemu-img rebase -u -F FORMAT writes it there"
    case .backingIsNoFile(let path, let backing):
      "\(path): \"\(backing)\" behind it is not the path of a file"
    case .tooManyLayers(let path):
      "\(path): more than \(ImageLimits.layersMax) images behind one another"
    case .tooLarge(let path):
      "\(path) has more than \(ImageLimits.blocksMax) blocks with data, and no index holds more"
    case .busy(let path): "\(path) is being indexed by another process"
    case .notIndexed(let path): "\(path) has no index yet"
    }
  }
}

/// An image without those behind it, open for reading.
struct ImageLayer: Sendable {
  let path: String
  let format: ImageFormat
  let file: ImageFile
  /// Of the file when it was opened.
  let state: ImageFile.State
  /// As its guest sees it.
  let imageBytes: UInt64
  /// Blocks that may hold something.
  let data: BlockMap
  /// Where blocks are: for a raw image, all of them.
  let map: BlockMap
  /// The image behind it, and what it is.
  let backing: (path: String, format: ImageFormat)?

  /// Holes shorter than this are read as well: 64 KiB.
  private static let holeBlocksMin: UInt64 = 16

  var signature: ImageSignature { ImageSignature(state) }

  /// Opens an image; blocks.
  ///
  /// - Parameter format: nil: raw, unless it begins like a qcow2 image. A guest with a raw disk could have written
  ///   that itself, so it is then refused.
  static func open(_ name: String, format: ImageFormat?) throws -> ImageLayer {
    guard let path = ImageFile.realPath(name) else { throw ImageIndexError.missing(name) }
    let file = try ImageFile(path: path)
    let state = try file.state()
    guard state.byteCount <= ImageLimits.imageBytesMax else {
      throw ImageIndexError.refused(path, "larger than \(ByteCount(ImageLimits.imageBytesMax))")
    }
    if format == .qcow2 { return try qcow2(path, file, state) }
    if format == nil, try start(of: file, count: 4) == [0x51, 0x46, 0x49, 0xFB] {
      throw ImageIndexError.looksLikeQcow2(path)
    }
    return ImageLayer(
      path: path, format: .raw, file: file, state: state, imageBytes: state.byteCount,
      data: try data(of: file, byteCount: state.byteCount),
      map: .raw(blocks: ImageLimits.blocks(of: state.byteCount)), backing: nil)
  }

  /// The image and all behind it, in that order; blocks.
  static func chain(_ name: String, format: ImageFormat?) throws -> [ImageLayer] {
    var layers = [try open(name, format: format)]
    while let next = layers[layers.count - 1].backing {
      guard layers.count < ImageLimits.layersMax else {
        throw ImageIndexError.tooManyLayers(layers[0].path)
      }
      layers.append(try open(next.path, format: next.format))
    }
    return layers
  }

  /// The image behind a qcow2 image, by its header alone; nil: none, or none that can be read. Blocks.
  static func backing(of path: String) -> (path: String, format: ImageFormat)? {
    guard let file = try? ImageFile(path: path), let state = try? file.state(),
      let bytes = try? start(
        of: file, count: Int(min(state.byteCount, UInt64(Qcow2Header.byteCountMax)))),
      let header = try? unsafe Qcow2Header(decoding: bytes.span.bytes)
    else { return nil }
    return try? backing(of: path, header)
  }

  private static func start(of file: ImageFile, count: Int) throws -> [UInt8] {
    try bytes(of: file, at: 0, count: count)
  }

  private static func bytes(
    of file: ImageFile, at offset: UInt64, count: Int
  ) throws(SystemError) -> [UInt8] {
    let buffer = PageBuffer(byteCount: max(count, 1))
    // SAFETY: `part` checks its bounds; the buffer is this function's own.
    let read = try unsafe file.read(at: offset, into: buffer.part(0, count))
    return unsafe Array(buffer.part(0, read))
  }

  private static func data(of file: ImageFile, byteCount: UInt64) throws(DecodeError) -> BlockMap {
    let blocks = ImageLimits.blocks(of: byteCount)
    var map = BlockMap()
    var end: UInt64 = 0
    var position: UInt64 = 0
    while let range = file.nextData(from: position, end: byteCount) {
      position = range.upperBound
      var first = max(range.lowerBound >> UInt64(Page.shift), end)
      if first - end < holeBlocksMin { first = end }
      // Blocks that are data in part are data; more at once than an extent counts are never asked for.
      let last = min((range.upperBound + UInt64(Page.size - 1)) >> UInt64(Page.shift), blocks)
      while first < last {
        let count = UInt32(min(last - first, 1 << 20))
        try map.append(
          .init(
            first: UInt32(truncatingIfNeeded: first), count: count,
            offset: first << UInt64(Page.shift)))
        first += UInt64(count)
      }
      end = max(end, last)
    }
    return map
  }

  private static func qcow2(
    _ path: String, _ file: ImageFile, _ state: ImageFile.State
  ) throws -> ImageLayer {
    do {
      let bytes = try start(
        of: file, count: Int(min(state.byteCount, UInt64(Qcow2Header.byteCountMax))))
      let header = try unsafe Qcow2Header(decoding: bytes.span.bytes)
      var map = Qcow2Map(header, fileBytes: state.byteCount)
      let first = try Self.bytes(of: file, at: map.l1.offset, count: map.l1.byteCount)
      for table in try unsafe map.tables(first.span.bytes) {
        let second = try Self.bytes(of: file, at: table.offset, count: header.clusterBytes)
        try unsafe map.append(table: table.number, second.span.bytes)
      }
      return ImageLayer(
        path: path, format: .qcow2, file: file, state: state, imageBytes: header.imageBytes,
        data: map.map, map: map.map, backing: try backing(of: path, header))
    } catch let error as Qcow2Refusal {
      throw ImageIndexError.refused(path, "\(error)")
    } catch let error as DecodeError {
      throw ImageIndexError.refused(path, "\(error)")
    }
  }

  private static func backing(
    of path: String, _ header: Qcow2Header
  ) throws -> (path: String, format: ImageFormat)? {
    guard let name = header.backingName else { return nil }
    // A name with a colon before its first slash is a protocol's, or QEMU's `json:`.
    guard !name.prefix(while: { $0 != "/" }).contains(":"), !name.utf8.contains(0) else {
      throw ImageIndexError.backingIsNoFile(path, backing: name)
    }
    let format: ImageFormat
    switch header.backingFormat {
    case "raw": format = .raw
    case "qcow2": format = .qcow2
    default: throw ImageIndexError.backingFormatUnknown(path, backing: name)
    }
    guard !name.hasPrefix("/"), let slash = path.lastIndex(of: "/") else { return (name, format) }
    return (String(path[...slash]) + name, format)
  }
}

extension ImageSignature {
  init(_ state: ImageFile.State) {
    self.init(
      byteCount: state.byteCount, modifiedNs: state.modifiedNs, changedNs: state.changedNs,
      inode: state.inode, device: state.device)
  }
}
