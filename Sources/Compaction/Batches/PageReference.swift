public import Wire

/// How a page is made of what the destination has.
public enum PageReference: Sendable, Hashable {
  /// Of the version before it; the checksum is `PageDelta`'s, of the page itself.
  case delta(check: UInt64)
  /// It is the same as another page.
  case duplicate(DuplicateNote)
}
