/// Pages that one side asks for or sends, by their numbers (`PageNumbering`): consecutive numbers are
/// consecutive pages of one block.
public struct PullRun: Sendable, Hashable {
  /// What is wanted of the pages, and how soon.
  public enum Kind: Sendable, Hashable {
    case ahead
    /// A processor of the guest waits for it.
    case urgent
    /// What proves the pages is asked for, not the pages: they may be made at the destination.
    case identities
  }

  /// Never empty.
  public let pages: Range<Int>
  public let kind: Kind

  /// - Precondition: `pages` is not empty. That they are of one block is checked where the run is
  ///   taken.
  public init(_ pages: Range<Int>, _ kind: Kind) {
    precondition(!pages.isEmpty)
    (self.pages, self.kind) = (pages, kind)
  }

  public var isUrgent: Bool { kind == .urgent }
}

/// Where a page that arrives comes from.
public enum PullOrigin: Sendable, Hashable {
  case source
  /// Made at the destination: of a snapshot in its vault, of a block of an image, or of a stored page that lay elsewhere.
  case snapshot, disk, vault
}

/// Why a peer or QEMU is not believed.
public enum PullRefusal: Error, Hashable, Sendable {
  /// A page of no block, or a number between blocks.
  case noSuchPage(Int)
  /// More is asked for at once than an honest destination ever does.
  case tooManyRequests(limit: Int)
}

/// What a page is to the destination. It only ever moves down this list.
public enum PullPageState: Sendable, Hashable {
  /// There before the guest ran here.
  case present
  /// Not there, and not asked for.
  case wanted
  /// Asked for.
  case requested
  /// Written once. QEMU dies of a second time.
  case placed
}

extension PageNumbering {
  /// Whether the number stands for a page.
  public func contains(_ number: Int) -> Bool {
    guard number >= 0, !bases.isEmpty else { return false }
    let block = block(of: number)
    return number - bases[block] < counts[block]
  }

  /// The numbers of consecutive pages, as a peer or QEMU names them: not trusted.
  public func numbers(
    block: Int, firstPage: UInt64, count: UInt64
  ) throws(PullRefusal) -> Range<Int> {
    guard counts.indices.contains(block), count > 0 else { throw .noSuchPage(-1) }
    let (end, isTooFar) = firstPage.addingReportingOverflow(count)
    guard !isTooFar, end <= UInt64(counts[block]) else {
      throw .noSuchPage(Int(clamping: firstPage))
    }
    return bases[block] + Int(firstPage)..<bases[block] + Int(end)
  }
}
