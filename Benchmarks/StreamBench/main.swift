// Throughput: `StreamBench`. One operation without timing, for an instruction counter:
// `StreamBench OPERATION PAGES ROUNDS`, where ROUNDS repeats the operation only.

let arguments = Array(CommandLine.arguments.dropFirst())
if arguments.isEmpty {
  try measureAll()
} else if arguments.count == 3, let pages = Int(arguments[1]), let rounds = Int(arguments[2]) {
  let workload = Workload(pageCount: pages)
  let stream = workload.stream()
  for _ in 0..<rounds {
    guard try perform(arguments[0], workload, stream) == pages else { throw BenchError.pagesLost }
  }
} else {
  throw BenchError.usage
}

enum BenchError: Error { case usage, pagesLost }

/// Runs an operation over all pages; returns how many it saw.
func perform(_ operation: String, _ workload: Workload, _ stream: [UInt8]) throws -> Int {
  switch operation {
  case "read":
    var visitor = CountingVisitor()
    try workload.read(stream, &visitor)
    return visitor.pages
  case "read+scan":
    var visitor = ScanningVisitor()
    try workload.read(stream, &visitor)
    return visitor.pages
  case "write": return workload.write(copying: true) / 4104
  case "write-header": return workload.write(copying: false) / 8
  default: throw BenchError.usage
  }
}

func measureAll() throws {
  for (pages, rounds) in [(65_536, 1), (256, 256)] {
    let workload = Workload(pageCount: pages)
    let stream = workload.stream()
    print("\(pages) pages of 4 KiB in random order, \(rounds) times, one thread; 7 runs")
    for name in ["read", "read+scan", "write", "write-header"] {
      try report(name, pages, rounds) { try perform(name, workload, stream) }
    }
    var placing = PlacingVisitor(memory: [UInt8](repeating: 0, count: pages * 4096))
    try report("read+place", pages, rounds) {
      placing.pages = 0
      try workload.read(stream, &placing)
      return placing.pages
    }
  }
}

func report(_ name: String, _ pages: Int, _ rounds: Int, _ body: () throws -> Int) throws {
  let clock = ContinuousClock()
  var times: [Duration] = []
  for _ in 0..<8 {
    let start = clock.now
    for _ in 0..<rounds {
      // The writer's first header names its block, which rounds away.
      guard try body() == pages else { throw BenchError.pagesLost }
    }
    times.append(clock.now - start)
  }
  times.removeFirst()  // warms up
  times.sort()
  let total = pages * rounds
  let (best, median) = (rate(times[0], total), rate(times[times.count / 2], total))
  print("  \(name): \(best) GB/s best, \(median) median, \(nanoseconds(times[0], total)) ns a page")
}

/// GB/s of page bytes with one decimal.
func rate(_ time: Duration, _ pages: Int) -> String {
  let tenths = UInt64(pages) * 4096 * 10 / UInt64(max(nanoseconds(time), 1))
  return "\(tenths / 10).\(tenths % 10)"
}

func nanoseconds(_ time: Duration, _ pages: Int = 1) -> Int64 {
  let (seconds, attoseconds) = time.components
  return (seconds * 1_000_000_000 + attoseconds / 1_000_000_000) / Int64(pages)
}
