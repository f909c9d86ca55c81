// What making pages small takes, by sort of page, and how many duplicates are found: `PageBench`; the latter alone:
// `PageBench duplicates`. One operation without timing, for an instruction counter: `PageBench OPERATION PAGES ROUNDS`,
// where ROUNDS repeats the operation only.
import Compaction

/// An operation on a workload; returns bytes that pages came to, or nothing of interest.
struct Operation: Sendable {
  let name: String
  let sort: Workload.Sort
  let makes: @Sendable (Workload) throws -> () throws -> Int
  /// What it returns is the size of the pages.
  var hasSize = true

  static let all: [Operation] = [
    pack("raw", .random, .lz4), pack("uniform", .uniform, .lz4), pack("gaps-lz4", .gaps, .lz4),
    pack("gaps-zstd1", .gaps, .zstd1), pack("text-lz4", .text, .lz4),
    pack("text-zstd1", .text, .zstd1), pack("text-zstd3", .text, .zstd3),
    pack("text-zstd6", .text, .zstd6),
    Operation(name: "delta-lz4", sort: .random) { load in { load.packDeltas(.lz4) } },
    references(.duplicate), references(.held), references(.vault), references(.disk),
    references(.gang),
    unpack("unpack-lz4", .lz4), unpack("unpack-zstd1", .zstd1),
    Operation(
      name: "identity", sort: .random, makes: { load in { load.identify() } }, hasSize: false),
    Operation(
      name: "fingerprint", sort: .random, makes: { load in { load.fingerprint() } }, hasSize: false),
  ]

  private static func pack(_ name: String, _ sort: Workload.Sort, _ effort: Effort) -> Operation {
    Operation(name: name, sort: sort) { load in { load.pack(effort) } }
  }

  /// Random pages that the destination has.
  private static func references(_ form: Known.Form) -> Operation {
    Operation(name: form.rawValue, sort: .random) { load in
      let known = try load.known(as: form)
      // Pages that aren't found would be measured as something else.
      guard load.packReferences(known) < load.pageCount * 256 else { throw BenchError.notFound }
      return { load.packReferences(known) }
    }
  }

  private static func unpack(_ name: String, _ effort: Effort) -> Operation {
    Operation(
      name: name, sort: .text,
      makes: { load in
        let packed = load.packed(effort)
        return { try load.unpack(packed) }
      }, hasSize: false)
  }
}

enum BenchError: Error { case usage, notFound }

let arguments = Array(CommandLine.arguments.dropFirst())
if arguments.isEmpty {
  try measureAll()
  Duplicates.measureAll()
} else if arguments == ["duplicates"] {
  Duplicates.measureAll()
} else if arguments.count == 3, let pages = Int(arguments[1]), let rounds = Int(arguments[2]),
  let operation = Operation.all.first(where: { $0.name == arguments[0] })
{
  let body = try operation.makes(Workload(operation.sort, pageCount: pages))
  for _ in 0..<rounds { _ = try body() }
} else {
  throw BenchError.usage
}

func measureAll() throws {
  let clock = ContinuousClock()
  print("8192 pages of 4 KiB in batches of 128, one thread; best and median of 7 runs")
  for operation in Operation.all {
    let load = Workload(operation.sort, pageCount: 8192)
    let body = try operation.makes(load)
    var times: [Duration] = []
    var result = 0
    for _ in 0..<8 {
      let start = clock.now
      result = try body()
      times.append(clock.now - start)
    }
    times.removeFirst()  // warms up
    times.sort()
    let size =
      operation.hasSize ? ", \(result * 1000 / (load.pageCount * 4096)) thousandths left" : ""
    print(
      "  \(operation.name): \(rate(times[0], load.pageCount)) thousand pages a second best, "
        + "\(rate(times[times.count / 2], load.pageCount)) median\(size)")
  }
}

/// Thousand pages a second.
func rate(_ time: Duration, _ pages: Int) -> Int64 {
  let (seconds, attoseconds) = time.components
  let microseconds = seconds * 1_000_000 + attoseconds / 1_000_000_000_000
  return Int64(pages) * 1000 / max(microseconds, 1)
}
