import Glibc

/// What the workload does, from `key=value` arguments (the guest's init passes the kernel command
/// line's `gw.key=value` on).
struct Options {
  enum Pattern: String, CaseIterable {
    case uniform, zipf, sequential
    /// Four of five writes go to a fifth of the pages.
    case hotspot
  }

  /// Memory that is filled and checked, in MiB.
  var memoryMiB = 256
  /// Share of each page that compresses well, in percent, `0...100`.
  var compressPercent = 50
  /// Memory that is written again and again, in MiB; at most `memoryMiB`.
  var hotMiB = 64
  /// Dirtied MiB/s over all threads; nil: as fast as the processor can.
  var dirtyMiBPerSecond: Int? = 20
  /// It works between writes rather than sleep, so that its rate is that of its processor.
  var isBusy = false
  var pattern = Pattern.uniform
  var threads = 1
  /// Bytes of a page that one write changes, `8...4072`.
  var changeBytes = Page.payloadBytes
  /// Checked MiB/s over all threads; nil: as fast as the processor can.
  var verifyMiBPerSecond: Int? = 200
  /// A kernel that runs beside that, on as many threads as there are copies of it.
  var kernel: NASKernel?
  var kernelClass = NASClass.s
  var kernelCopies = 1
  /// Size of a file on the disk that is read and written, in MiB; 0: none.
  var diskMiB = 0
  /// Bytes of an operation, in KiB.
  var diskBlockKiB = 4
  /// nil: as fast as the disk can.
  var diskOperationsPerSecond: Int?
  var diskWritePercent = 50
  /// Reads go through the file in order, so that all of it is checked, again and again.
  var scansDisk = false
  /// Pages' worth of work after each operation.
  var computePages = 0
  var heartbeatMs = 20
  var seed: UInt64 = 1

  /// Nil with a message when an argument is not understood: a typo must not become a default.
  init(arguments: some Sequence<String>) throws(Complaint) {
    for argument in arguments {
      let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2 else { throw Complaint(text: "not key=value: \(argument)") }
      try set(parts[0], to: parts[1])
    }
    hotMiB = min(hotMiB, memoryMiB)
  }

  struct Complaint: Error { let text: String }

  private mutating func set(_ key: String, to value: String) throws(Complaint) {
    func number(_ range: ClosedRange<Int>) throws(Complaint) -> Int {
      guard let number = Int(value), range.contains(number) else {
        throw Complaint(text: "\(key) must be within \(range), not \(value)")
      }
      return number
    }
    switch key {
    case "mem": memoryMiB = try number(1...1 << 24)
    case "compress": compressPercent = try number(0...100)
    case "hot": hotMiB = try number(0...1 << 24)
    case "rate": dirtyMiBPerSecond = value == "max" ? nil : try number(0...1 << 20)
    case "busy": isBusy = try number(0...1) == 1
    case "verify": verifyMiBPerSecond = value == "max" ? nil : try number(0...1 << 20)
    case "threads": threads = try number(1...256)
    case "change": changeBytes = try number(8...Page.payloadBytes)
    case "kernel": kernel = try choice(key, value)
    case "class": kernelClass = try choice(key, value)
    case "copies": kernelCopies = try number(1...256)
    case "disk": diskMiB = try number(0...1 << 20)
    case "block": diskBlockKiB = try number(4...1024)
    case "operations": diskOperationsPerSecond = value == "max" ? nil : try number(0...1 << 20)
    case "writes": diskWritePercent = try number(0...100)
    case "scan": scansDisk = try number(0...1) == 1
    case "compute": computePages = try number(0...1 << 20)
    case "beat": heartbeatMs = try number(1...10_000)
    case "seed": seed = UInt64(try number(0...Int.max))
    case "pattern": pattern = try choice(key, value)
    default: throw Complaint(text: "unknown argument \(key)")
    }
  }

  private func choice<Value: RawRepresentable<String> & CaseIterable>(
    _ key: String, _ text: String
  ) throws(Complaint) -> Value {
    guard let chosen = Value(rawValue: text) else {
      let all = Value.allCases.map(\.rawValue).joined(separator: ", ")
      throw Complaint(text: "\(key) must be one of \(all), not \(text)")
    }
    return chosen
  }
}
