import Glibc
import Synchronization

/// Reads and writes a file on the guest's disk, past the page cache, in blocks of pages that know who they are:
/// what is read must be what was written last. With `compute` it works on each block as long as it takes to check
/// so many pages: a load of processor and disk together.
@safe struct DiskLoad {
  static let path = "/mnt/godwit-load"
  /// Alignment that O_DIRECT is content with everywhere.
  static let alignment = Page.size
  /// Glibc's module does not show it.
  #if arch(x86_64)
    static let direct: Int32 = 0o40000
  #else
    static let direct: Int32 = 0o200000
  #endif

  let options: Options
  let file: Int32
  /// Pages of a block, and blocks of the file.
  let blockPages, blockCount: Int
  private let buffer: UnsafeMutableRawPointer
  /// The version that each block's pages must have.
  private var generations: [UInt64]
  /// The block that is read next when reads go in order.
  private var cursor = 0

  /// Nil when there is no disk to load, after saying so.
  init?(_ options: Options) {
    self.options = options
    blockPages = max(options.diskBlockKiB / 4, 1)
    blockCount = max(options.diskMiB * 256 / blockPages, 1)
    generations = Array(repeating: 0, count: blockCount)
    let opened = unsafe open(Self.path, O_RDWR | O_CREAT | Self.direct | O_CLOEXEC, 0o600)
    var memory: UnsafeMutableRawPointer?
    let failed = unsafe posix_memalign(&memory, Self.alignment, blockPages * Page.size)
    guard opened >= 0, failed == 0, let memory = unsafe memory else {
      emit("ERR disk: cannot open \(Self.path): errno \(errno)\n")
      return nil
    }
    file = opened
    unsafe buffer = unsafe memory
  }

  /// Writes every block once; false after an error.
  mutating func fill() -> Bool {
    for block in 0..<blockCount where !write(block) { return false }
    return true
  }

  /// Never returns.
  mutating func run() -> Never {
    var picker = Picker(pattern: .uniform, count: blockCount, seed: options.seed &+ 77)
    var pace = Pacer(
      perSecond: options.diskOperationsPerSecond.map { UInt64($0) }, nowNs: monotonicNs())
    while true {
      guard pace.due(nowNs: monotonicNs(), limit: 1) > 0 else {
        sleepMs(1)
        continue
      }
      var block = picker.next()
      let isWrite = picker.random() % 100 < UInt64(options.diskWritePercent)
      if !isWrite, options.scansDisk { block = nextInOrder() }
      let isDone = isWrite ? write(block) : read(block)
      if isDone { counters.diskPages.add(UInt64(blockPages), ordering: .relaxed) }
      for number in 0..<options.computePages {
        let page = number % blockPages
        // The result is of no use to anybody: a fault was counted when the block was read.
        _ = self.page(page).check(index: index(block, page), generation: generations[block])
      }
      counters.steps.add(UInt64(options.computePages), ordering: .relaxed)
    }
  }

  /// Counts the file when its last block was read, which is before the first one is asked for again.
  private mutating func nextInOrder() -> Int {
    if cursor == blockCount {
      cursor = 0
      counters.diskScans.add(1, ordering: .relaxed)
    }
    cursor += 1
    return cursor - 1
  }

  private func index(_ block: Int, _ page: Int) -> UInt64 { UInt64(block * blockPages + page) }

  private func page(_ number: Int) -> Page {
    // SAFETY: number < blockPages, the buffer's size in pages; nobody else touches the buffer.
    unsafe Page((buffer + number * Page.size).assumingMemoryBound(to: UInt64.self))
  }

  private mutating func write(_ block: Int) -> Bool {
    let generation = generations[block] &+ 1
    for number in 0..<blockPages {
      page(number).write(
        index: index(block, number), generation: generation, compressibleWords: 0,
        seed: options.seed)
    }
    let size = blockPages * Page.size
    // SAFETY: the buffer has `size` bytes.
    guard unsafe pwrite(file, buffer, size, block * size) == size else {
      return fail("cannot write block \(block): errno \(errno)")
    }
    generations[block] = generation
    return true
  }

  private func read(_ block: Int) -> Bool {
    let size = blockPages * Page.size
    // SAFETY: the buffer has `size` bytes.
    guard unsafe pread(file, buffer, size, block * size) == size else {
      return fail("cannot read block \(block): errno \(errno)")
    }
    for number in 0..<blockPages {
      let index = index(block, number)
      if let fault = page(number).check(index: index, generation: generations[block]) {
        return fail("\(fault.rawValue) page \(index), expected generation \(generations[block])")
      }
    }
    return true
  }

  private func fail(_ text: String) -> Bool {
    if counters.errors.add(1, ordering: .relaxed).oldValue < Worker.errorLineMax {
      emit("ERR disk: \(text)\n")
    }
    return false
  }
}
