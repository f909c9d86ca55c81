/// What a mover of disks knows of their blocks, for whoever asks: metadata contexts of Godwit's own, 4096 bytes a block.
extension NBDExtent {
  /// What a disk's move has yet to send.
  public static let needed = "godwit:needed"
  /// What was written since the disk's last snapshot.
  public static let changed = "godwit:changed"
  /// What the surrogate of a move alone has the newest content of.
  public static let outsourced = "godwit:outsourced"
  /// What a disk that is pulled doesn't have yet.
  public static let missing = "godwit:missing"
  /// Of blocks it says nothing. Who asks for it moves a disk to the export, and is let in once earlier connections that
  /// asked for it have ended, and nothing of theirs is being carried out: a mover that gave one up has sent there what it
  /// sends again, or has newer.
  public static let mover = "godwit:mover"

  /// In each of the others: the block is what the context is named after.
  public static let marked: UInt64 = 1
  /// In `needed` and `missing`: it is there, and perhaps not on stable storage.
  public static let unflushed: UInt64 = 2
  /// In each of the others: there is no move, snapshot, surrogate or pull that the context could tell of; comes alone.
  public static let untold: UInt64 = 4
}
