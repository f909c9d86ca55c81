import Glibc

/// CG's matrix: sparse, symmetric, positive definite but for a shift. It is the sum over i of
/// `ratio^i × v v^T` for sparse random vectors v, each of which has 0.5 at i, and the diagonal gets
/// `0.1 - shift`; rows hold their entries one after the other.
struct NASMatrix {
  /// Of row r: entries `rowStarts[r]..<rowStarts[r + 1]`.
  private(set) var rowStarts: [Int] = [0]
  private(set) var columns: [Int32] = []
  private(set) var values: [Double] = []

  let count: Int
  /// The condition number's inverse.
  private static let condition = 0.1

  /// - Parameters:
  ///   - count: rows and columns.
  ///   - nonzeros: random entries of each vector.
  ///   - random: one number was taken out of it already.
  init(count: Int, nonzeros: Int, shift: Double, random: inout NASRandom) {
    self.count = count
    let vectors = (0..<count).map {
      Self.vector($0, count: count, nonzeros: nonzeros, random: &random)
    }
    // Which vectors have an entry in a row, and what it is.
    var inRow = [[(vector: Int, value: Double)]](repeating: [], count: count)
    for (index, vector) in vectors.enumerated() {
      for entry in vector { inRow[entry.place].append((index, entry.value)) }
    }
    let ratio = pow(Self.condition, 1 / Double(count))
    var scales = [Double](repeating: 1, count: count)
    for index in 1..<count { scales[index] = scales[index - 1] * ratio }
    var sums = [Double](repeating: 0, count: count)
    var isTouched = [Bool](repeating: false, count: count)
    for row in 0..<count {
      var touched: [Int] = []
      for (index, value) in inRow[row] {
        for entry in vectors[index] {
          if !isTouched[entry.place] {
            isTouched[entry.place] = true
            touched.append(entry.place)
          }
          sums[entry.place] += entry.value * (scales[index] * value)
        }
      }
      sums[row] += Self.condition - shift
      for column in touched.sorted() {
        columns.append(Int32(column))
        values.append(sums[column])
        (sums[column], isTouched[column]) = (0, false)
      }
      rowStarts.append(columns.count)
    }
  }

  private typealias Entry = (place: Int, value: Double)

  /// Random entries at random, different places; then 0.5 at `index`.
  private static func vector(
    _ index: Int, count: Int, nonzeros: Int, random: inout NASRandom
  ) -> [Entry] {
    var power = 1
    while power < count { power *= 2 }
    var entries: [Entry] = []
    while entries.count < nonzeros {
      let value = random.next()
      let place = Int(Double(power) * random.next())
      guard place < count, !entries.contains(where: { $0.place == place }) else { continue }
      entries.append((place, value))
    }
    if let own = entries.firstIndex(where: { $0.place == index }) {
      entries[own].value = 0.5
    } else {
      entries.append((index, 0.5))
    }
    return entries
  }

  /// `result = self × vector`.
  func multiply(_ vector: [Double], into result: inout [Double], progress: (Int) -> Void) {
    var reported = 0
    for row in 0..<count {
      var sum = 0.0
      for entry in rowStarts[row]..<rowStarts[row + 1] {
        sum += values[entry] * vector[Int(columns[entry])]
      }
      result[row] = sum
      if row & 255 == 255 || row == count - 1 {
        progress(rowStarts[row + 1] - reported)
        reported = rowStarts[row + 1]
      }
    }
  }
}
