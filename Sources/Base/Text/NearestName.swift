/// Finds the name that somebody probably meant, for error messages.
public enum NearestName {
  /// Longer names are not compared: the work grows with the product of the lengths.
  static let lengthMax = 64

  /// The one of `known` with the fewest typing mistakes to `name`, upper and lower case being the same;
  /// nil when none is near: at most a third of the letters may be wrong.
  public static func of(_ name: String, among known: [String]) -> String? {
    guard name.utf8.count <= lengthMax else { return nil }
    let wanted = Array(name.lowercased().utf8)
    let limit = max(1, wanted.count / 3)
    var best: (name: String, mistakes: Int)?
    for candidate in known where candidate.utf8.count <= lengthMax {
      let mistakes = distance(wanted, Array(candidate.lowercased().utf8))
      if mistakes <= limit, mistakes < best?.mistakes ?? .max { best = (candidate, mistakes) }
    }
    return best?.name
  }

  /// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a` (optimal string
  /// alignment).
  static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    var (before, last) = ([Int](), Array(0...b.count))
    for i in a.indices {
      var row = [i + 1]
      for j in b.indices {
        var cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, before[j - 1] + 1) }
        row.append(cost)
      }
      (before, last) = (last, row)
    }
    return last[b.count]
  }
}
