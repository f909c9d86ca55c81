/// MG: V-cycles for a discrete Poisson problem with charges of +1 and -1 at twenty points. The norm of what is
/// left in the end is published.
struct NASMultigrid {
  static let chargeCount = 10
  /// The operator, and the smoother of the small classes.
  private static let poisson = NASGrid.Weights(
    centre: -8.0 / 3, faces: 0, edges: 1.0 / 6, corners: 1.0 / 12)
  private static let smoother = NASGrid.Weights(
    centre: -3.0 / 8, faces: 1.0 / 32, edges: -1.0 / 64, corners: 0)

  /// Points each way are 2 to the power of `levels`.
  let levels, cycles: Int
  let expected: Double

  init(_ size: NASClass) {
    switch size {
    case .s: (levels, cycles, expected) = (5, 4, 0.5307707005734e-04)
    case .w: (levels, cycles, expected) = (7, 4, 0.6467329375339e-05)
    case .a: (levels, cycles, expected) = (8, 4, 0.2433365309069e-05)
    }
  }

  func run(progress: (Int) -> Void) -> NASVerdict {
    let charges = charges(progress)
    var solution = NASGrid(size: charges.size)
    var rest = charges
    for _ in 0..<cycles {
      cycle(&solution, rest, charges, progress)
      rest = charges
      rest.add(Self.poisson.negated, of: solution, progress)
    }
    return NASVerdict("norm", Self.norm(rest), expected: expected, within: 1e-8)
  }

  /// One V-cycle: `rest` is what `solution` leaves of `charges`.
  private func cycle(
    _ solution: inout NASGrid, _ rest: NASGrid, _ charges: NASGrid, _ progress: (Int) -> Void
  ) {
    // Down: what is left, on every grid from half the size to 2 points each way.
    var rests: [NASGrid] = []
    for _ in 1..<levels { rests.append((rests.last ?? rest).restricted(progress)) }
    guard let smallest = rests.popLast() else { return }
    var correction = NASGrid(size: smallest.size)
    correction.add(Self.smoother, of: smallest, progress)
    // Up again.
    while var rest = rests.popLast() {
      var finer = NASGrid(size: rest.size)
      finer.addInterpolated(correction, progress)
      rest.add(Self.poisson.negated, of: finer, progress)
      finer.add(Self.smoother, of: rest, progress)
      correction = finer
    }
    solution.addInterpolated(correction, progress)
    var rest = charges
    rest.add(Self.poisson.negated, of: solution, progress)
    solution.add(Self.smoother, of: rest, progress)
  }

  /// Of as many random numbers as there are points, the ten largest places get +1, the ten smallest -1.
  private func charges(_ progress: (Int) -> Void) -> NASGrid {
    typealias Place = (value: Double, index: Int)
    var grid = NASGrid(size: 1 << levels)
    var random = NASRandom()
    var (largest, smallest): ([Place], [Place]) = ([], [])
    func keep(_ place: Place, in list: inout [Place], _ isBefore: (Double, Double) -> Bool) {
      if list.count == Self.chargeCount {
        guard let last = list.last, isBefore(place.value, last.value) else { return }
        list.removeLast()
      }
      let at = list.firstIndex { isBefore(place.value, $0.value) } ?? list.count
      list.insert(place, at: at)
    }
    for z in 1...grid.size {
      for y in 1...grid.size {
        for x in 1...grid.size {
          let place = (random.next(), grid.index(x, y, z))
          keep(place, in: &largest, >)
          keep(place, in: &smallest, <)
        }
      }
      progress(grid.size * grid.size)
    }
    for place in largest { grid.values[place.index] = 1 }
    for place in smallest { grid.values[place.index] = -1 }
    grid.wrap()
    return grid
  }

  /// The root of the mean square.
  private static func norm(_ grid: NASGrid) -> Double {
    var sum = 0.0
    for z in 1...grid.size {
      for y in 1...grid.size {
        for x in 1...grid.size {
          let value = grid.values[grid.index(x, y, z)]
          sum += value * value
        }
      }
    }
    return (sum / Double(grid.size * grid.size * grid.size)).squareRoot()
  }
}
