public import Wire

/// How a page is made of what the destination has.
public enum PageReference: Sendable, Hashable {
  /// Of the version before it; the checksum is `PageDelta`'s, of the page itself.
  case delta(check: UInt64)
  /// It is the same as another page.
  case duplicate(DuplicateNote)
  /// A snapshot at the destination holds it at the same place. `proof`, SHA-256: to be packed, of the page;
  /// unpacked, of the identities of all such pages of the frame in their order, the same for each of them.
  case held(proof: [UInt8])
  /// It is the same as a block of a disk image.
  case disk(DiskNote)
  /// It is the same as a page of another guest of the gang.
  case gang(GangNote)
  /// It is the same as a stored page of a snapshot.
  case vault(VaultNote)
}
