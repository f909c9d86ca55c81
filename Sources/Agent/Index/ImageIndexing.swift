import Base
import Compaction
import HostIO

/// Builds, refreshes and verifies the indexes of images on this host (`godwit index`).
public struct ImageIndexing: Sendable {
  /// How the image that is named is to be read.
  public enum Format: String, Sendable, CaseIterable { case raw, qcow2 }

  /// How far it is.
  public struct Progress: Sendable {
    public let path: String
    public let readBytes, totalBytes: UInt64
    public let elapsedMs: UInt64
  }

  /// What became of one image.
  public struct Outcome: Codable, Sendable, Equatable {
    /// What was done about the image.
    public enum Action: String, Codable, Sendable {
      /// Nobody wrote to the file since it was indexed: nothing was read.
      case unchanged
      case built
      /// The index was compared with the image.
      case verified
    }

    public var image: String
    public var format: String
    public var action: Action
    /// As the guest sees it, and what of that is not zero.
    public var imageBytes, heldBytes: UInt64
    public var indexBytes: UInt64
    public var readBytes, elapsedMs: UInt64
    /// Regions of 16 MiB: all of them, those that an earlier run had read, and those that differ from the index
    /// there was before (nil: there was none).
    public var regions, resumedRegions: UInt64
    public var changedRegions: UInt64?
    /// The file was written to while it was read.
    public var wasChangedMeanwhile: Bool
    public var root: String
  }

  public var folder: IndexFolder
  /// Of the image that is named; those behind it say what they are. Nil: raw.
  public var format: Format?
  public var threads: Int
  /// Compare, and write nothing.
  public var verifies = false
  /// Read also what nobody wrote to, and what an earlier run has read.
  public var startsAnew = false

  public init(folder: IndexFolder, format: Format? = nil, threads: Int) {
    (self.folder, self.format, self.threads) = (folder, format, threads)
  }

  /// Indexes an image and those behind it, in that order. Blocks. Who is killed meanwhile goes on with what was
  /// read, the next time.
  ///
  /// - Parameter onProgress: called five times a second, from a thread of its own.
  public func run(
    _ path: String, onProgress: @escaping @Sendable (Progress) -> Void = { _ in }
  ) throws -> [Outcome] {
    try folder.make()
    return try ImageLayer.chain(path, format: format.map { $0 == .raw ? .raw : .qcow2 }).map {
      let watch = Watch(onProgress: onProgress)
      return try verifies ? verify($0, watch) : refresh($0, watch)
    }
  }

  /// All indexes of this host, with what is wrong where one cannot be read. Blocks.
  public func list() -> [Result<Listed, any Error>] {
    folder.files().map { path in Result { Listed(try StoredIndex(path: path)) } }
  }

  private struct Watch {
    let onProgress: @Sendable (Progress) -> Void
    let startMs = MonotonicClock.nowMs
  }

  private func refresh(_ layer: ImageLayer, _ watch: Watch) throws -> Outcome {
    guard let lock = try FileLock.attempt(folder.lockPath(layer.path)) else {
      throw ImageIndexError.busy(layer.path)
    }
    defer { lock.release() }
    let before = folder.load(layer.path)
    if let before, !startsAnew, before.index.isCurrent(layer) {
      RecordFile.remove(folder.journalPath(layer.path))
      return Outcome(before, .unchanged, watch.startMs)
    }
    let journal = try IndexJournal(
      path: folder.journalPath(layer.path), layer, keepsEarlier: !startsAnew)
    let collected = Guarded(try Regions(journal.records, of: layer.path))
    let reader = try RegionReader(layer, known: Set(journal.records.map(\.region)))
    try watched(reader, layer, watch) {
      try reader.run(threads: threads) { record in
        if !record.blocks.isEmpty { try journal.append(record) }
        try collected.update { try $0.add(record) }
      }
    }
    let regions = collected.read { $0 }
    let summaries = try regions.summaries(of: layer)
    var writer = IndexWriter(
      format: layer.format, imageBytes: layer.imageBytes, signature: layer.signature,
      readFrom: journal.readFrom, path: layer.path, map: layer.map)
    writer.wasChanged = try layer.file.state() != layer.state
    try store(
      try writer.bytes(
        regions: summaries, root: try Self.root(summaries), blocks: regions.blocks), layer)
    RecordFile.remove(folder.journalPath(layer.path))
    guard let stored = folder.load(layer.path) else {
      throw ImageIndexError.notIndexed(layer.path)
    }
    var outcome = Outcome(stored, .built, watch.startMs)
    outcome.readBytes = reader.readBytes
    outcome.resumedRegions = UInt64(journal.records.count)
    outcome.changedRegions = before.map { Self.differing($0.index.regions, summaries) }
    return outcome
  }

  private func verify(_ layer: ImageLayer, _ watch: Watch) throws -> Outcome {
    let stored = try StoredIndex(path: folder.indexPath(layer.path))
    let collected = Guarded(try Regions([], of: layer.path))
    let reader = try RegionReader(layer, known: [])
    try watched(reader, layer, watch) {
      try reader.run(threads: threads) { record in try collected.update { try $0.add(record) } }
    }
    let summaries = try collected.read { $0 }.summaries(of: layer)
    var outcome = Outcome(stored, .verified, watch.startMs)
    outcome.readBytes = reader.readBytes
    outcome.changedRegions = Self.differing(stored.index.regions, summaries)
    outcome.wasChangedMeanwhile = try layer.file.state() != layer.state
    return outcome
  }

  /// Runs `body`, which reads, and tells meanwhile how far it is.
  private func watched(
    _ reader: RegionReader, _ layer: ImageLayer, _ watch: Watch, _ body: () throws -> Void
  ) throws {
    layer.file.readsInOrder()
    let isOver = Guarded(false)
    let teller = WorkerThread("gw-index-tell") {
      while isOver.wait(timeoutMs: 200, until: { $0 ? true : nil }) == nil {
        watch.onProgress(
          Progress(
            path: layer.path, readBytes: reader.readBytes, totalBytes: reader.totalBytes,
            elapsedMs: MonotonicClock.nowMs - watch.startMs))
      }
    }
    defer {
      isOver.update { $0 = true }
      teller.join()
    }
    try body()
  }

  /// Puts the index in the place of the one before, at once or not at all.
  private func store(_ bytes: [UInt8], _ layer: ImageLayer) throws {
    let file = try RecordFile(path: folder.newPath(layer.path))
    try file.cut(to: 0)
    try file.append(bytes)
    try file.flush()
    try file.replace(folder.indexPath(layer.path))
  }

  private static func root(_ regions: [RegionSummary]) throws -> ImageDigest {
    var bytes: [UInt8] = []
    for region in regions { region.digest.encode(into: &bytes) }
    let digest = unsafe PageIdentity.bytes(of: bytes.span.bytes)
    return try unsafe ImageDigest(digest.span.bytes)
  }

  private static func differing(_ old: [RegionSummary], _ new: [RegionSummary]) -> UInt64 {
    let same = zip(old, new).count { $0.digest == $1.digest }
    return UInt64(max(old.count, new.count) - same)
  }
}

/// Regions as they come in, in any order.
private struct Regions: Sendable {
  private var summaries: [UInt32: RegionSummary] = [:]
  private(set) var blocks: [IndexedBlock] = []

  private let path: String

  init(_ records: [RegionRecord], of path: String) throws(ImageIndexError) {
    self.path = path
    for record in records { try add(record) }
  }

  mutating func add(_ record: RegionRecord) throws(ImageIndexError) {
    // An earlier builder may have been killed between two writes of one region.
    guard summaries.updateValue(record.summary, forKey: record.region) == nil else { return }
    // Said while there is memory left: a host with guests on it must not be filled up by an index.
    guard blocks.count + record.blocks.count <= ImageLimits.blocksMax else {
      throw .tooLarge(path)
    }
    blocks += record.blocks
  }

  func summaries(of layer: ImageLayer) throws -> [RegionSummary] {
    try (0..<ImageLimits.regions(of: layer.imageBytes)).map { region in
      guard let summary = summaries[UInt32(region)] else {
        throw ImageIndexError.notIndexed(layer.path)
      }
      return summary
    }
  }
}

extension ImageIndex {
  /// Whether the file cannot have been written to since it was read. A file's times tell that once they lie far
  /// enough back; a device has none.
  func isCurrent(_ layer: ImageLayer) -> Bool {
    !layer.file.isDevice && !wasChanged && signature == layer.signature
      && signature.isSettled(before: readFrom) && format == layer.format
      && imageBytes == layer.imageBytes
  }
}
