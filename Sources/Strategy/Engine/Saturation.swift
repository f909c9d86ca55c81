extension UInt64 {
  /// The difference, or 0 where it would be negative.
  public func minusFloored(_ other: UInt64) -> UInt64 { self > other ? self - other : 0 }

  /// Whether this is at least `permille` thousandths of `other`.
  func reaches(_ permille: UInt64, permilleOf other: UInt64) -> Bool {
    self >= other.scaled(by: permille, over: 1000)
  }
}
