import Glibc
import Synchronization

// Fills memory, dirties a part of it, checks all of it, and says every few milliseconds on standard
// output (the serial port) that it is alive:
//
//   HB seq uptimeMs dirtied verifiedScans errors work kernelRuns diskScans
//
// work counts what the guest is there for: the steps of a kernel where one runs, else what a disk load did,
// else pages written and pages checked. How fast it grows is how fast the guest is.

/// Lines of several threads stay whole: one write each.
func emit(_ line: String) {
  let bytes = Array(line.utf8)
  var sent = 0
  while sent < bytes.count {
    let written = unsafe bytes[sent...].withUnsafeBytes {
      unsafe write(1, $0.baseAddress, $0.count)
    }
    if written < 0 && errno != EINTR { return }
    sent += max(written, 0)
  }
}

func start(_ body: @escaping @Sendable () -> Never) {
  final class Box: Sendable {
    let body: @Sendable () -> Never
    init(_ body: @escaping @Sendable () -> Never) { self.body = body }
  }
  var thread = pthread_t()
  let context = unsafe Unmanaged.passRetained(Box(body)).toOpaque()
  let failed = unsafe pthread_create(
    &thread, nil,
    { context in
      // SAFETY: the box retained above, taken back once.
      guard let context = unsafe context else { return nil }
      unsafe Unmanaged<Box>.fromOpaque(context).takeRetainedValue().body()
    }, context)
  if failed != 0 {
    emit("ERR thread \(failed)\n")
    exit(1)
  }
}

func heartbeats(_ options: Options, totalPages: Int, startNs: UInt64) -> Never {
  let isMemoryTheWork = options.kernel == nil && options.diskMiB == 0
  var sequence = 0
  var nextNs = monotonicNs()
  while true {
    let now = monotonicNs()
    let dirtied = counters.dirtied.load(ordering: .relaxed)
    let verified = counters.verified.load(ordering: .relaxed)
    let steps = counters.steps.load(ordering: .relaxed)
    let others = steps &+ counters.diskPages.load(ordering: .relaxed)
    let work = isMemoryTheWork ? dirtied &+ verified : others
    emit(
      "HB \(sequence) \((now - startNs) / 1_000_000) \(dirtied)"
        + " \(verified / UInt64(max(totalPages, 1))) \(counters.errors.load(ordering: .relaxed))"
        + " \(work) \(counters.kernelRuns.load(ordering: .relaxed))"
        + " \(counters.diskScans.load(ordering: .relaxed))\n")
    sequence += 1
    nextNs += UInt64(options.heartbeatMs) * 1_000_000
    let after = monotonicNs()
    if nextNs <= after { nextNs = after }  // late: no burst to catch up
    sleepMs(max(Int((nextNs - after) / 1_000_000), 1))
  }
}

let options: Options
do {
  options = try Options(arguments: CommandLine.arguments.dropFirst())
} catch {
  emit("ERR arguments \(error.text)\n")
  exit(2)
}
let totalPages = options.memoryMiB * 256 / options.threads * options.threads
let mapping = unsafe mmap(
  nil, max(totalPages, 1) * Page.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
guard let base = unsafe mapping, unsafe base != MAP_FAILED else {
  emit("ERR memory \(options.memoryMiB) MiB: errno \(errno)\n")
  exit(1)
}
let startNs = monotonicNs()
let ready = Atomic<Int>(0)
// SAFETY: an address is only a number here; each worker touches its own pages of the mapping.
let baseAddress = UInt(bitPattern: base)
for id in 0..<options.threads {
  start {
    guard let base = unsafe UnsafeMutableRawPointer(bitPattern: baseAddress) else { exit(1) }
    var worker = unsafe Worker(id: id, options: options, base: base, totalPages: totalPages)
    worker.fill()
    ready.add(1, ordering: .releasing)
    while ready.load(ordering: .acquiring) < options.threads { sleepMs(1) }
    worker.run()
  }
}
if options.diskMiB > 0 {
  start {
    guard var load = DiskLoad(options), load.fill() else { exit(1) }
    ready.add(1, ordering: .releasing)
    load.run()
  }
}
let readyCount = options.threads + (options.diskMiB > 0 ? 1 : 0)
while ready.load(ordering: .acquiring) < readyCount { sleepMs(1) }
if let kernel = options.kernel {
  let loop = KernelLoop(kernel: kernel, size: options.kernelClass)
  for _ in 0..<options.kernelCopies { start { loop.run() } }
}
emit("READY pages \(totalPages) filledMs \((monotonicNs() - startNs) / 1_000_000)\n")
heartbeats(options, totalPages: totalPages, startNs: startNs)
