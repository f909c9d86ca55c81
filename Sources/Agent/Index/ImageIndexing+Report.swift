import Base
import Compaction
import HostIO

extension ImageIndexing {
  /// An index of this host.
  public struct Listed: Codable, Sendable, Equatable {
    public var image: String
    public var format: String
    public var imageBytes, heldBytes, indexBytes: UInt64
    /// Blocks of 4 KiB in the index, each content once.
    public var blocks: UInt64
    /// When it was read, in seconds since 1970.
    public var readAt: UInt64
    /// The image was written to since; nil: its file cannot be looked at, or is a device, which does not tell.
    public var isChanged: Bool?
    public var root: String

    init(_ stored: StoredIndex) {
      let index = stored.index
      (image, format) = (index.path, index.format.name)
      (imageBytes, heldBytes) = (index.imageBytes, index.heldBlocks << UInt64(Page.shift))
      indexBytes = UInt64(stored.byteCount)
      (blocks, readAt, root) = (UInt64(index.tableCount), index.readFrom, index.root.hex)
      if let file = try? ImageFile(path: index.path), !file.isDevice,
        let state = try? file.state()
      {
        isChanged = index.wasChanged || ImageSignature(state) != index.signature
      }
    }
  }
}

extension ImageIndexing.Outcome {
  init(_ stored: StoredIndex, _ action: Action, _ startMs: UInt64) {
    let index = stored.index
    self.init(
      image: index.path, format: index.format.name, action: action, imageBytes: index.imageBytes,
      heldBytes: index.heldBlocks << UInt64(Page.shift), indexBytes: UInt64(stored.byteCount),
      readBytes: 0, elapsedMs: MonotonicClock.nowMs - startMs, regions: UInt64(index.regions.count),
      resumedRegions: 0, changedRegions: nil, wasChangedMeanwhile: index.wasChanged,
      root: index.root.hex)
  }
}

extension ImageFormat {
  /// As QEMU calls it.
  var name: String {
    switch self {
    case .raw: "raw"
    case .qcow2: "qcow2"
    }
  }
}

extension ImageDigest {
  var hex: String {
    [a, b, c, d].map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }
}
