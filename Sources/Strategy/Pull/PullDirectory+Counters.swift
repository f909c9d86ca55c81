extension PullDirectory {
  /// What became of faults, and of pages that came, since the guest runs here.
  public struct Counters: Sendable, Hashable {
    /// Faults that had to wait for a page; of these, for one that was on its way already.
    public var faults = 0
    public var faultsOnTheWay = 0
    /// Faults for pages that were there by then.
    public var faultsAnsweredBefore = 0
    /// Pages placed: that a processor waited for, that were asked for ahead, that came unasked.
    public var placedForFaults = 0
    public var placedAhead = 0
    public var placedUnasked = 0
    /// Pages placed that nobody waited for and that were made here.
    public var placedMade = 0
    /// Of all that were placed: made of the snapshot, of images, of stored pages that lay elsewhere, and those of all
    /// three that a processor waited for.
    public var ofSnapshot = 0
    public var ofDisk = 0
    public var ofVault = 0
    public var madeForFaults = 0
    /// Pages that were to be made here and could not be.
    public var unmade = 0
    /// Arrivals that were dropped.
    public var duplicates = 0

    /// All pages placed, whoever wanted them and wherever they came from.
    public var placed: Int { placedForFaults + placedAhead + placedUnasked + placedMade }
  }
}
