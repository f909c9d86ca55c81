public import Base

/// Bounds what is on its way: sent and not yet applied at the destination.
///
/// What is on its way when the guest stops adds to the downtime, so the window follows the measured
/// rate (bandwidth-delay product plus `slackMs`), between `limitMin` and `limitMax`.
///
/// The rate is what the link carries, as far as that shows. While the ends hold the sender up (encoders that are
/// busy, a destination that has to write many packed pages), few bytes go over and the link isn't to blame; but ends that
/// are slow altogether are as good as a slow link. So such a moment counts with the memory that it covered, as if that
/// had gone unpacked, and never for more than what was known. A window that is full may be the destination's doing as
/// well, or that of a link that has become slow: that is believed after a second (`doubtMaxMs`).
public struct SendWindow: Sendable {
  /// Window before anything is measured, and the smallest ever, in bytes.
  public static let limitMin: UInt64 = 4 << 20
  /// Queueing that is allowed on top of the round trip, in milliseconds.
  public static let slackMs: UInt64 = 25
  /// Most frames on their way; below what `ApplyOrder` accepts.
  public static let framesMax = 16384
  /// So many times its limit the window may hold of page bytes, however small they are packed: a destination
  /// has to write them all.
  static let packedMost: UInt64 = 8
  /// Length of one rate sample, in milliseconds, and how many weigh as much as the newest at first.
  static let sampleMs: UInt64 = 50
  static let smoothing: UInt64 = 4

  /// Largest window, in bytes; what the destination agreed to hold.
  public let limitMax: UInt64
  /// Bytes that may be on their way.
  public private(set) var limit: UInt64
  /// Bytes that are.
  public private(set) var inFlight: UInt64 = 0
  /// Page bytes of what is on its way.
  private var inFlightPages: UInt64 = 0
  /// Delivered bytes per second, smoothed; nil until the first sample.
  public private(set) var rate: ByteRate?
  /// Smallest time from send to acknowledgement seen, in milliseconds.
  public private(set) var roundTripMinMs: UInt64?

  /// Pages of zeros, which weigh nothing in bytes.
  public private(set) var zeros = ZeroWindow()
  /// How fast the destination takes pages with contents.
  private var contents = PageRate()

  private struct Frame {
    let sequence, bytes, pageBytes, zeroPages, sentAtMs: UInt64

    /// The guest's memory that it is about.
    var coveredBytes: UInt64 { max(bytes, pageBytes + zeroPages * UInt64(Page.size)) }
  }
  private var frames: [Frame] = []
  private var head = 0
  private var acknowledged: UInt64 = 0
  private var lastSent: UInt64 = 0
  private var sampleStartMs: UInt64?
  private var sampleBytes: UInt64 = 0
  private var sampleCoveredBytes: UInt64 = 0
  private var samplePageBytes: UInt64 = 0
  /// How long full windows have let less over than before, and for how long that is put down to the destination, in
  /// milliseconds.
  private var doubtedMs: UInt64 = 0
  static let doubtMaxMs: UInt64 = 1000
  /// Samples so far, up to `smoothing`.
  private var sampleCount: UInt64 = 0
  /// Whether the window was full at any time of the sample, and whether the ends held the sender up: where neither
  /// is so, it says nothing of how fast pages could go.
  private var sampleWasFull = false
  private var sampleWasHeldUp = false

  /// The window begins at `limitMin`; a smaller `limitMax` counts as that.
  public init(limitMax: UInt64) {
    self.limitMax = max(limitMax, Self.limitMin)
    limit = Self.limitMin
  }

  /// Most pages with contents that may be on their way under a window of `limitMax` bytes, without frames that are
  /// sent past it because others overtook them: what a destination must be ready to miss.
  public static func pagesMax(limitMax: UInt64) -> Int {
    Int(clamping: max(limitMax, limitMin) / (UInt64(Page.size) / packedMost))
  }

  /// Whether a frame of `bytes` may be sent now; one frame always may.
  ///
  /// - Parameter pageBytes: what the destination has to write for it, where that is more.
  public func admits(_ bytes: UInt64, pageBytes: UInt64 = 0) -> Bool {
    inFlight == 0
      || (hasRoom(bytes) && inFlightPages + pageBytes <= limit * Self.packedMost)
  }

  private func hasRoom(_ bytes: UInt64) -> Bool {
    inFlight + bytes <= limit && frames.count - head < Self.framesMax
  }

  /// Milliseconds that the destination needs for what is on its way, however small it is packed; 0 before anything is
  /// measured.
  public var applyingMs: UInt64 {
    let (sum, overflow) = zeros.applyingMs.addingReportingOverflow(
      contents.milliseconds(for: inFlightPages))
    return overflow ? .max : sum
  }

  /// Notes that the sender waits with a frame of `bytes` that wasn't admitted.
  public mutating func noteRefused(_ bytes: UInt64) {
    if hasRoom(bytes) { sampleWasHeldUp = true } else { sampleWasFull = true }
  }

  /// Notes that there was nothing to send, because the encoders had not come so far.
  public mutating func noteEncodersBusy() { sampleWasHeldUp = true }

  /// Takes room for pages of zeros that were picked, see `ZeroWindow.reserve`.
  public mutating func reserve(zeroPages: UInt64) -> Bool { zeros.reserve(zeroPages) }

  /// A frame was handed to a lane. Sequences rise, but for a few that are overtaken.
  ///
  /// - Parameter zeroPages: those it has, which were reserved.
  public mutating func sent(
    sequence: UInt64, bytes: UInt64, pageBytes: UInt64 = 0, zeroPages: UInt64 = 0, nowMs: UInt64
  ) {
    inFlight += bytes
    inFlightPages += pageBytes
    lastSent = max(lastSent, sequence)
    let place = frames[head...].lastIndex { $0.sequence < sequence }.map { $0 + 1 } ?? head
    frames.insert(
      Frame(
        sequence: sequence, bytes: bytes, pageBytes: pageBytes, zeroPages: zeroPages,
        sentAtMs: nowMs), at: place)
    if sampleStartMs == nil { sampleStartMs = nowMs }
  }

  /// A frame goes another way and weighs nothing here, but will be acknowledged too.
  public mutating func announced(sequence: UInt64) { lastSent = max(lastSent, sequence) }

  /// The destination applied everything up to `sequence`; false when that was never sent.
  public mutating func acknowledged(through sequence: UInt64, nowMs: UInt64) -> Bool {
    guard sequence <= lastSent else { return false }
    guard sequence >= acknowledged else { return true }
    acknowledged = sequence
    var (delivered, covered): (UInt64, UInt64) = (0, 0)
    while head < frames.count, frames[head].sequence <= sequence {
      let frame = frames[head]
      delivered += frame.bytes
      covered += frame.coveredBytes
      inFlightPages -= frame.pageBytes
      samplePageBytes += frame.pageBytes
      zeros.applied(frame.zeroPages, others: frame.pageBytes / UInt64(Page.size))
      let roundTrip = nowMs >= frame.sentAtMs ? nowMs - frame.sentAtMs : 0
      roundTripMinMs = min(roundTripMinMs ?? .max, roundTrip)
      head += 1
    }
    if head > 1024, head * 2 > frames.count {
      frames.removeFirst(head)
      head = 0
    }
    inFlight -= delivered
    sample(delivered, covered: covered, nowMs: nowMs)
    return true
  }

  private mutating func sample(_ delivered: UInt64, covered: UInt64, nowMs: UInt64) {
    sampleBytes += delivered
    sampleCoveredBytes += covered
    guard let start = sampleStartMs, nowMs >= start + Self.sampleMs else { return }
    let span = (roundTripMinMs ?? 0) + Self.slackMs
    zeros.sample(ms: nowMs - start, spanMs: span)
    contents.note(
      samplePageBytes * 1000 / (nowMs - start), isTelling: sampleWasFull || sampleWasHeldUp)
    let known = rate?.bytesPerSecond ?? 0
    var measured = sampleBytes * 1000 / (nowMs - start)
    let plausible = max(measured, min(sampleCoveredBytes * 1000 / (nowMs - start), known))
    if plausible <= measured {
      doubtedMs = 0
    } else if sampleWasFull {
      doubtedMs += nowMs - start
    }
    if doubtedMs <= Self.doubtMaxMs { measured = plausible }
    // A sample in which the sender was idle says how fast QEMU dirties, not what the link carries.
    if sampleWasFull || sampleWasHeldUp || measured > known {
      let before = min(sampleCount, Self.smoothing - 1)
      let smoothed = (known * before + measured) / (before + 1)
      rate = ByteRate(bytesPerSecond: smoothed) ?? rate
      sampleCount = before + 1
    }
    (sampleBytes, sampleCoveredBytes, samplePageBytes) = (0, 0, 0)
    sampleStartMs = inFlight > 0 ? nowMs : nil
    (sampleWasFull, sampleWasHeldUp) = (false, false)
    guard let rate else { return }
    let (product, overflow) = rate.bytesPerSecond.multipliedReportingOverflow(by: span)
    limit = min(max(overflow ? .max : product / 1000 * 5 / 4, Self.limitMin), limitMax)
  }
}
