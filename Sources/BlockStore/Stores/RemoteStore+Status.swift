public import NBD

/// What the server tells of its blocks.
extension RemoteStore {
  /// `base:allocation`, which is known of every disk, and what else was asked for and the server has.
  public var contexts: [String] {
    let others = session.contexts.map(\.name).filter { $0 != NBDExtent.allocation }
    return [NBDExtent.allocation] + others
  }

  public func status(
    at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    try status(of: NBDExtent.allocation, at: offset, count: count, extentsMax: extentsMax)
  }

  public func status(
    of context: String, at offset: UInt64, count: UInt64, extentsMax: Int
  ) throws(StoreError) -> [NBDExtent] {
    guard let id = session.contexts.first(where: { $0.name == context })?.id else {
      guard context == NBDExtent.allocation else {
        throw StoreError(.invalid, "the server underneath doesn't tell of \(context)")
      }
      return [NBDExtent(length: count, flags: 0)]
    }
    let count = min(count, Self.rangeMax)
    let told = unsafe try ask(
      .blockStatus, extentsMax == 1 ? .requestOne : [], at: offset, count: count)
    var (extents, left): ([NBDExtent], UInt64) = ([], count)
    for extent in (told[id] ?? []).prefix(extentsMax) where left > 0 {
      // The last one may go on behind the range.
      let length = min(extent.length, left)
      extents.append(NBDExtent(length: length, flags: extent.flags))
      left -= length
    }
    guard !extents.isEmpty else { throw StoreError(.inputOutput, "no status from underneath") }
    return extents
  }
}
