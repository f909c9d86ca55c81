/// How the content of one page that is not zero is written in an `encodedPages` frame.
public enum PageKind: UInt8, Sendable, CaseIterable {
  /// 4096 bytes, in the part behind everything else.
  case raw = 0
  /// One word of 8 bytes over and over: the word is a note.
  case uniform = 1
  /// 4096 bytes within the packed part, compressed together with the others in it.
  case compressed = 2
  /// 4096 bytes within the packed part: the page XOR what the destination has of it, which is the
  /// version sent before. A checksum of the page is a note.
  case delta = 3
  /// What another page of the destination holds: its place and the page's identity are a note.
  case duplicate = 4
  /// What a snapshot at the destination holds at the same place. Nothing of its own: one digest in front of
  /// all notes proves all such pages of the frame.
  case held = 5
  /// What a block of a disk image holds that the destination has, too: the block and the page's identity are a
  /// note.
  case disk = 6
  /// What a page of another guest of the same gang holds at the destination: its place and the page's identity are a
  /// note.
  case gang = 7
  /// What a snapshot at the destination holds, wherever in it and of whichever guest: which stored page of which
  /// snapshot, and the page's identity, are a note.
  case vault = 8

  /// Bytes of the note that the page has in front of the packed part.
  public var noteByteCount: Int {
    switch self {
    case .raw, .compressed, .held: 0
    case .uniform: 8
    case .delta: 8
    case .duplicate: DuplicateNote.byteCount
    case .disk: DiskNote.byteCount
    case .gang: GangNote.byteCount
    case .vault: VaultNote.byteCount
    }
  }

  /// Whether its 4096 bytes are within the packed part.
  public var isPacked: Bool { self == .compressed || self == .delta }

  /// Whether the destination needs what it has already to make the page.
  public var isReference: Bool {
    switch self {
    case .raw, .uniform, .compressed: false
    case .delta, .duplicate, .held, .disk, .gang, .vault: true
    }
  }
}

/// How the packed part is compressed.
public enum PageCodec: UInt8, Sendable, CaseIterable {
  /// There is no packed part.
  case none = 0
  /// One LZ4 block.
  case lz4 = 1
  /// One zstd frame.
  case zstd = 2
}
