import Glibc
import Synchronization

/// Counts that the heartbeat prints; written by the workers.
struct Counters: ~Copyable, Sendable {
  let dirtied = Atomic<UInt64>(0)
  let verified = Atomic<UInt64>(0)
  let errors = Atomic<UInt64>(0)
  /// Of kernels, and of the work that a disk load does beside.
  let steps = Atomic<UInt64>(0)
  /// Runs of kernels that gave the published result.
  let kernelRuns = Atomic<UInt64>(0)
  /// Read from or written to the disk.
  let diskPages = Atomic<UInt64>(0)
  /// Times that the whole file on the disk was read and found right or wrong.
  let diskScans = Atomic<UInt64>(0)
}

let counters = Counters()

/// One thread's pages: it alone writes and checks them, so that no lock is needed and every
/// difference that it finds is the migration's.
@safe struct Worker {
  /// Error lines printed per thread; the count goes on.
  static let errorLineMax: UInt64 = 20

  let id: Int
  let options: Options
  let base: UnsafeMutableRawPointer
  /// The first page and the number of this thread's pages.
  let firstPage, pageCount: Int
  let hotCount: Int
  /// The version that each page must have.
  private let generations: UnsafeMutablePointer<UInt64>
  private let compressibleWords: Int
  private var reported: UInt64 = 0

  init(id: Int, options: Options, base: UnsafeMutableRawPointer, totalPages: Int) {
    let share = totalPages / options.threads
    (self.id, self.options) = (id, options)
    unsafe self.base = unsafe base
    (firstPage, pageCount) = (id * share, share)
    hotCount = min(options.hotMiB * 256 / options.threads, share)
    compressibleWords = Page.payloadWords * options.compressPercent / 100
    // SAFETY: allocated and initialised for pageCount entries, kept as long as the process.
    unsafe generations = .allocate(capacity: max(share, 1))
    unsafe generations.initialize(repeating: 0, count: max(share, 1))
  }

  private func page(_ local: Int) -> Page {
    // SAFETY: local < pageCount, and all threads' pages lie within the mapping.
    unsafe Page(
      (base + (firstPage + local) * Page.size).assumingMemoryBound(to: UInt64.self))
  }

  func fill() {
    for local in 0..<pageCount {
      page(local).write(
        index: UInt64(firstPage + local), generation: 0, compressibleWords: compressibleWords,
        seed: options.seed)
    }
  }

  /// Never returns: writes what is due, checks what is due, sleeps when nothing is.
  mutating func run() -> Never {
    var picker = Picker(
      pattern: options.pattern, count: max(hotCount, 1), seed: options.seed &+ UInt64(id) &* 7919)
    let start = monotonicNs()
    var writes = Pacer(
      mebibytesPerSecond: hotCount > 0 ? options.dirtyMiBPerSecond : 0, threads: options.threads,
      nowNs: start)
    var checks = Pacer(
      mebibytesPerSecond: options.verifyMiBPerSecond, threads: options.threads, nowNs: start)
    var cursor = 0
    var work: BusyWork?
    if options.isBusy, hotCount > 0, let rate = options.dirtyMiBPerSecond {
      writes = Pacer(perSecond: nil, nowNs: start)
      work = BusyWork(writesPerSecond: rate * 256 / options.threads) {
        dirty(picker.next(), &picker)
      }
    }
    while true {
      let now = monotonicNs()
      let writeCount = writes.due(nowNs: now, limit: 64)
      for _ in 0..<writeCount {
        dirty(picker.next(), &picker)
        work?.afterWrite()
      }
      counters.dirtied.add(UInt64(writeCount), ordering: .relaxed)
      let checkCount = checks.due(nowNs: now, limit: 64)
      for _ in 0..<checkCount {
        verify(cursor)
        cursor = cursor + 1 == pageCount ? 0 : cursor + 1
      }
      counters.verified.add(UInt64(checkCount), ordering: .relaxed)
      if writeCount + checkCount == 0 { sleepMs(1) }
    }
  }

  private func dirty(_ local: Int, _ picker: inout Picker) {
    // SAFETY: local < hotCount <= pageCount, the table's size.
    let generation = unsafe generations[local] &+ 1
    if options.changeBytes >= Page.payloadBytes {
      page(local).write(
        index: UInt64(firstPage + local), generation: generation,
        compressibleWords: compressibleWords, seed: options.seed)
    } else {
      page(local).change(
        to: generation, first: Int(picker.random() % UInt64(Page.payloadWords)),
        count: options.changeBytes / 8, seed: options.seed)
    }
    unsafe generations[local] = generation
  }

  private mutating func verify(_ local: Int) {
    let index = UInt64(firstPage + local)
    // SAFETY: local < pageCount, the table's size.
    let expected = unsafe generations[local]
    guard let fault = page(local).check(index: index, generation: expected) else { return }
    counters.errors.add(1, ordering: .relaxed)
    if reported < Self.errorLineMax {
      reported += 1
      let found = page(local)[1]
      emit("ERR \(fault.rawValue) page \(index) generation \(found) expected \(expected)\n")
    }
    // Made whole again, so that one loss is counted once.
    page(local).write(
      index: index, generation: expected, compressibleWords: compressibleWords,
      seed: options.seed)
  }
}
