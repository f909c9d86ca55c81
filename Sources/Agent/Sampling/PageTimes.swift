import Base
import Compaction
import HostIO
import Strategy

/// How long things take that are done to one part of the pages after the other. The median of the parts counts: a
/// thread that was not running for a while does not make pages dear, and a host that is slow altogether shows.
struct PageTimes: Sendable, Equatable {
  /// Nanoseconds a page, of each part.
  private var parts: [UInt64] = []

  /// - Parameter pages: none are left out.
  mutating func note(pages: Int, us: UInt64) {
    guard pages > 0 else { return }
    let (ns, overflow) = us.multipliedReportingOverflow(by: 1000)
    parts.append((overflow ? .max : ns) / UInt64(pages))
  }

  /// Nil: nothing was timed.
  var medianNs: UInt64? {
    parts.isEmpty ? nil : parts.sorted()[parts.count / 2]
  }
}

extension SampledContents {
  /// Pages that are timed together: long enough for a clock of microseconds.
  private static let partPages = 64

  /// How long one thread takes to name a page, as a migration does it: it looks the page up, and hashes it for the
  /// destination to prove; in nanoseconds. Nil: there is none to name.
  ///
  /// - Parameters:
  ///   - ways: by page, how the destination would make it.
  ///   - nowUs: the clock.
  func nameNs(
    _ ways: [KnownPages.Way?], disks: DiskDirectory?, nowUs: () -> UInt64 = { MonotonicClock.nowUs }
  ) -> UInt64? {
    var times = PageTimes()
    var (pages, beganUs) = (0, nowUs())
    forEach { index, content in
      guard ways.indices.contains(index), let way = ways[index] else { return }
      Self.name(content, way, disks)
      pages += 1
      guard pages == Self.partPages else { return }
      times.note(pages: pages, us: nowUs().minusFloored(beganUs))
      (pages, beganUs) = (0, nowUs())
    }
    // A few are better than none.
    if times.medianNs == nil { times.note(pages: pages, us: nowUs().minusFloored(beganUs)) }
    return times.medianNs
  }

  /// What `BatchEncoder` does; nothing comes of it.
  private static func name(_ content: RawSpan, _ way: KnownPages.Way, _ disks: DiskDirectory?) {
    _ = SentMemory.hash(content, seed: 0)
    // A block's identity is made where it is found.
    guard way != .disk || disks?.find(content) == nil else { return }
    _ = PageIdentity.bytes(of: content)
  }
}
