/// Words and small sums of reports. Pure.
enum ReportText {
  /// Letters, digits and dashes alone: a file's name.
  static func slug(_ text: String) -> String {
    String(text.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "-" })
  }

  static func title(_ figure: MatrixFigure) -> String {
    switch figure {
    case .total: "Total time"
    case .downtime: "Downtime"
    case .gap: "Longest silence that a client saw"
    case .wire: "Bytes on the wire"
    case .slower: "Work lost before the stop"
    case .back: "Back to 90 % of its work after"
    case .lost: "All work lost, as time at full speed"
    case .together: "All guests moved"
    case .processor: "Processor time of QEMU and agents"
    case .memory: "Memory of the agents"
    case .rate: "Requests of a disk's clients while it moves"
    case .phaseSlower: "Requests that were lacking in the worse phase"
    case .phaseTail: "Latency in the worse phase, 99 %, to the time before"
    case .latency: "Latency of a disk's clients while it moves, median"
    case .tail: "Latency of a disk's clients while it moves, 99 %"
    case .served: "Until a pulled disk is served at the destination"
    case .reads: "Read from the source's disk for the move"
    case .faults: "Pages waited for over the network"
    }
  }

  /// Sums of `count` neighbours each; what is left over at the end is no whole sum, and dropped.
  static func merged(_ values: [Double], by count: Int) -> [Double] {
    guard count > 1 else { return values }
    return stride(from: 0, to: values.count - values.count % count, by: count).map { start in
      values[start..<(start + count)].reduce(0, +)
    }
  }

  /// Means over five neighbours.
  static func smoothed(_ values: [Double]) -> [Double] {
    values.indices.map { index in
      let part = values[max(index - 2, 0)...min(index + 2, values.count - 1)]
      return part.reduce(0, +) / Double(part.count)
    }
  }
}
