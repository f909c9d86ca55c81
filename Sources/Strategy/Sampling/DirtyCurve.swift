/// Distinct pages that a guest dirties within windows of several lengths. Pure.
public struct DirtyCurve: Sendable, Hashable {
  /// How many pages are dirtied within a window of one length.
  public struct Point: Sendable, Hashable {
    /// At least 1.
    public var windowMs: UInt64
    public var pages: PageEstimate

    public init(windowMs: UInt64, _ pages: PageEstimate) {
      (self.windowMs, self.pages) = (windowMs, pages)
    }
  }

  /// By rising window.
  public var points: [Point]

  public init(_ points: [Point]) { self.points = points }
}

/// The most distinct pages that a guest is expected to dirty within some time, from a short sample. Pure.
public struct DirtyBound: Sendable, Hashable {
  /// The sample took so long, in milliseconds, and found so many pages.
  let lengthMs, pages: UInt64
  /// Of these, in its last `newMs` milliseconds (at least 1), for the first time.
  let newPages, newMs: UInt64

  /// - Parameters:
  ///   - lengthMs: how long the sample took.
  ///   - pages: distinct pages that it found dirtied.
  ///   - newPages: of these, in its last `newMs` milliseconds for the first time.
  ///   - newMs: 0 counts as 1.
  public init(lengthMs: UInt64, pages: UInt64, newPages: UInt64, newMs: UInt64) {
    (self.lengthMs, self.pages) = (lengthMs, pages)
    (self.newPages, self.newMs) = (newPages, max(newMs, 1))
  }

  /// Pages dirtied within `ms` milliseconds; more than RAM has, where the sample says too little.
  public func pages(withinMs ms: UInt64) -> UInt64 {
    pages.addingSaturating(newPages.scaled(by: ms.minusFloored(lengthMs), over: newMs))
  }
}
