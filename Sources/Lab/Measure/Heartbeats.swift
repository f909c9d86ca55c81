/// One heartbeat line of the guest: `HB seq uptimeMs dirtied verifiedScans errors work kernelRuns diskScans`.
public struct Heartbeat: Sendable, Equatable {
  public let sequence, uptimeMs, dirtiedPages, verifiedScans, errors: UInt64
  /// What the guest is there for, so far: pages written and checked, or a kernel's steps, or what a disk load did.
  public let work: UInt64
  /// Runs of a kernel that gave the published result.
  public let kernelRuns: UInt64
  /// Times that a disk load has read all of its file and checked it, where it reads in order.
  public let diskScans: UInt64

  /// Nil when the line is something else, or a beat that was cut.
  public init?(line: some StringProtocol) {
    let fields = line.split(separator: " ", omittingEmptySubsequences: true)
    guard fields.count == 9, fields[0] == "HB" else { return nil }
    var numbers: [UInt64] = []
    for field in fields.dropFirst() {
      guard let number = UInt64(field) else { return nil }
      numbers.append(number)
    }
    (sequence, uptimeMs, dirtiedPages) = (numbers[0], numbers[1], numbers[2])
    (verifiedScans, errors, work) = (numbers[3], numbers[4], numbers[5])
    (kernelRuns, diskScans) = (numbers[6], numbers[7])
  }
}

/// What a guest said on its serial ports, source's and destination's, with the host's time.
public struct HeartbeatLog: Sendable {
  public enum Side: String, Sendable { case source, destination }

  /// A heartbeat, where it was heard and when.
  public struct Entry: Sendable, Equatable {
    public let side: Side
    /// Microseconds on the host's monotonic clock, when the line was complete.
    public let atUs: UInt64
    public let beat: Heartbeat
  }

  /// Beats kept: two and a half hours at 10 ms. Older ones are dropped, in halves.
  static let entryCountMax = 900_000
  /// Other lines kept (kernel messages, errors of the workload).
  static let lineCountMax = 400
  /// A line without an end is cut here, in bytes.
  static let lineBytesMax = 4096

  /// By time; of a long run the oldest are gone.
  public private(set) var entries: [Entry] = []
  /// Lines that are no heartbeats, the first ones.
  public private(set) var otherLines: [String] = []
  /// `READY`: the workload filled its memory and started.
  public private(set) var isReady = false
  /// The line of each side that has no end yet, its last bytes, and the side that was heard last.
  private var partial: [Side: [UInt8]] = [:]
  private var tails: [Side: [UInt8]] = [:]
  private var speaker = Side.source
  /// Since the other side was heard, until it is clear where its words begin.
  private var seam: SerialSeam?

  public init() {}

  /// Takes what a serial port gave at `atUs`; lines may come in any pieces.
  public mutating func receive(_ bytes: some Sequence<UInt8>, from side: Side, atUs: UInt64) {
    let fresh = bytes.filter { $0 != UInt8(ascii: "\r") }
    guard !fresh.isEmpty else { return }
    if side != speaker {
      if let seam { partial[speaker] = seam.unfinished }
      let isBegun = partial[side]?.isEmpty == false
      seam = isBegun ? nil : SerialSeam(begun: partial[speaker] ?? [], said: tails[speaker] ?? [])
      if !isBegun { partial[speaker] = nil }
    }
    speaker = side
    let tail = (tails[side] ?? []) + fresh.suffix(SerialSeam.repeatedMax)
    tails[side] = Array(tail.suffix(SerialSeam.repeatedMax))
    var rest = fresh[...]
    while seam != nil, let byte = rest.popFirst() {
      let last = entries.last?.beat
      guard let known = seam?.append(byte, after: last) else { continue }
      seam = nil
      takeLines(known, from: side, atUs: atUs)
    }
    takeLines(rest, from: side, atUs: atUs)
  }

  private mutating func takeLines(_ bytes: some Sequence<UInt8>, from side: Side, atUs: UInt64) {
    var rest = partial[side] ?? []
    for byte in bytes {
      if byte == UInt8(ascii: "\n") || rest.count == Self.lineBytesMax {
        take(String(decoding: rest, as: UTF8.self), from: side, atUs: atUs)
        rest.removeAll(keepingCapacity: true)
      } else {
        rest.append(byte)
      }
    }
    partial[side] = rest
  }

  private mutating func take(_ line: String, from side: Side, atUs: UInt64) {
    if let beat = Heartbeat(line: line) {
      if entries.count == Self.entryCountMax { entries.removeFirst(Self.entryCountMax / 2) }
      entries.append(Entry(side: side, atUs: atUs, beat: beat))
      return
    }
    if line.hasPrefix("READY") { isReady = true }
    if otherLines.count < Self.lineCountMax && !line.isEmpty { otherLines.append(line) }
  }

  public var last: Entry? { entries.last }
  /// Of the beats that are kept.
  public func count(from side: Side) -> UInt64 {
    UInt64(entries.count { $0.side == side })
  }

  /// Errors that the guest counted so far, and `ERR` lines that it printed, whichever is more.
  public var errors: UInt64 {
    let lines = otherLines.count { $0.hasPrefix("ERR") }
    return max(entries.last?.beat.errors ?? 0, UInt64(lines))
  }

  /// Milliseconds between the last beat at the source and the first one after it at the
  /// destination; nil while the destination has not been heard.
  public var handoverMs: UInt64? {
    guard let last = entries.last(where: { $0.side == .source }),
      // Of a guest that was there before, and is back.
      let first = entries.first(where: { $0.side == .destination && $0.atUs > last.atUs })
    else { return nil }
    return (first.atUs - last.atUs) / 1000
  }

  /// The longest silence between two beats within the window, in milliseconds; nil without beats.
  public func longestSilenceMs(fromUs: UInt64, toUs: UInt64) -> UInt64? {
    LongestGap.milliseconds(timesUs: entries.lazy.map(\.atUs), fromUs: fromUs, toUs: toUs)
  }

  /// Beats whose number does not follow the one before: a guest that ran twice, or went back.
  public var sequenceBreaks: UInt64 { UInt64(breaks.count) }

  /// The first break, for people who look for a cause; nil without one.
  public var firstBreak: String? {
    breaks.first.map { before, after in
      "\(before.beat.sequence) at the \(before.side.rawValue), then \(after.beat.sequence) at the "
        + after.side.rawValue
    }
  }

  private var breaks: [(before: Entry, after: Entry)] {
    zip(entries, entries.dropFirst()).filter { $0.beat.sequence &+ 1 != $1.beat.sequence }
      .map { (before: $0, after: $1) }
  }
}

/// The longest time without an event.
public enum LongestGap {
  /// Over the events within `[fromUs, toUs]`, with the window's ends as events: what was silent
  /// from the start on, or until the end, counts too. Nil for an empty window.
  public static func milliseconds(
    timesUs: some Sequence<UInt64>, fromUs: UInt64, toUs: UInt64
  ) -> UInt64? {
    guard fromUs < toUs else { return nil }
    var previous = fromUs
    var longest: UInt64 = 0
    for time in timesUs where time > previous {
      guard time < toUs else { break }
      longest = max(longest, time - previous)
      previous = time
    }
    return max(longest, toUs - previous) / 1000
  }
}
