/// A counter that only grows, read at some times: between them it is taken to grow evenly.
struct WorkCurve {
  private let points: [(atUs: UInt64, work: UInt64)]

  /// Points that go back in time or in count are left out.
  init(_ readings: [(atUs: UInt64, work: UInt64)]) {
    var points: [(atUs: UInt64, work: UInt64)] = []
    points.reserveCapacity(readings.count)
    for reading in readings {
      if let last = points.last, reading.atUs <= last.atUs || reading.work < last.work { continue }
      points.append(reading)
    }
    self.points = points
  }

  var lastUs: UInt64 { points.last?.atUs ?? 0 }

  /// The count at a time; before the first reading the first, after the last the last.
  func work(atUs time: UInt64) -> UInt64 {
    // The first point later than `time`.
    var (low, high) = (0, points.count)
    while low < high {
      let middle = (low + high) / 2
      if points[middle].atUs > time { high = middle } else { low = middle + 1 }
    }
    guard low > 0 else { return points.first?.work ?? 0 }
    let left = points[low - 1]
    guard low < points.count else { return left.work }
    let right = points[low]
    return left.work
      + Ratio.scale(right.work - left.work, time - left.atUs, over: right.atUs - left.atUs)
  }

  /// Units per second between two times; nil where no time lies between them or nothing was heard.
  func rate(fromUs: UInt64, toUs: UInt64) -> UInt64? {
    guard let first = points.first?.atUs, first < toUs, fromUs < toUs else { return nil }
    let start = max(fromUs, first)
    return Ratio.scale(work(atUs: toUs) - work(atUs: start), 1_000_000, over: toUs - start)
  }

  func buckets(fromUs: UInt64, toUs: UInt64, widthUs: UInt64, countMax: UInt64) -> [UInt64] {
    guard widthUs > 0, toUs > fromUs else { return [] }
    return (0..<min((toUs - fromUs) / widthUs, countMax)).map { index in
      let start = fromUs + index * widthUs
      return work(atUs: start + widthUs) - work(atUs: start)
    }
  }
}

enum Ratio {
  /// `value × factor ÷ divisor`, rounded down; the largest number where it would not fit, or without a
  /// divisor.
  static func scale(_ value: UInt64, _ factor: UInt64, over divisor: UInt64) -> UInt64 {
    let product = value.multipliedFullWidth(by: factor)
    guard product.high < divisor else { return .max }
    return divisor.dividingFullWidth(product).quotient
  }
}
