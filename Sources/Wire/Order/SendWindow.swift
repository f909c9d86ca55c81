public import Base

/// Bounds what is on its way: sent and not yet applied at the destination.
///
/// What is on its way when the guest stops adds to the downtime, so the window follows the measured
/// rate (bandwidth-delay product plus `slackMs`), between `limitMin` and `limitMax`.
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
  /// Length of one rate sample, in milliseconds.
  static let sampleMs: UInt64 = 50

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

  private var frames: [(sequence: UInt64, bytes: UInt64, pageBytes: UInt64, sentAtMs: UInt64)] = []
  private var head = 0
  private var acknowledged: UInt64 = 0
  private var lastSent: UInt64 = 0
  private var sampleStartMs: UInt64?
  private var sampleBytes: UInt64 = 0
  /// Whether the window was full at any time of the sample: only then it tells the link's rate.
  private var sampleWasLimited = false

  public init(limitMax: UInt64) {
    self.limitMax = max(limitMax, Self.limitMin)
    limit = Self.limitMin
  }

  /// Whether a frame of `bytes` may be sent now; one frame always may.
  ///
  /// - Parameter pageBytes: what the destination has to write for it, where that is more.
  public func admits(_ bytes: UInt64, pageBytes: UInt64 = 0) -> Bool {
    inFlight == 0
      || (inFlight + bytes <= limit && frames.count - head < Self.framesMax
        && inFlightPages + pageBytes <= limit * Self.packedMost)
  }

  /// Notes that the sender waited for room.
  public mutating func noteBlocked() { sampleWasLimited = true }

  /// A frame was handed to a lane. Sequences rise, but for a few that are overtaken.
  public mutating func sent(sequence: UInt64, bytes: UInt64, pageBytes: UInt64 = 0, nowMs: UInt64) {
    inFlight += bytes
    inFlightPages += pageBytes
    lastSent = max(lastSent, sequence)
    let place = frames[head...].lastIndex { $0.sequence < sequence }.map { $0 + 1 } ?? head
    frames.insert((sequence, bytes, pageBytes, nowMs), at: place)
    if sampleStartMs == nil { sampleStartMs = nowMs }
  }

  /// A frame goes another way and weighs nothing here, but will be acknowledged too.
  public mutating func announced(sequence: UInt64) { lastSent = max(lastSent, sequence) }

  /// The destination applied everything up to `sequence`; false when that was never sent.
  public mutating func acknowledged(through sequence: UInt64, nowMs: UInt64) -> Bool {
    guard sequence <= lastSent else { return false }
    guard sequence >= acknowledged else { return true }
    acknowledged = sequence
    var delivered: UInt64 = 0
    while head < frames.count, frames[head].sequence <= sequence {
      let frame = frames[head]
      delivered += frame.bytes
      inFlightPages -= frame.pageBytes
      let roundTrip = nowMs >= frame.sentAtMs ? nowMs - frame.sentAtMs : 0
      roundTripMinMs = min(roundTripMinMs ?? .max, roundTrip)
      head += 1
    }
    if head > 1024, head * 2 > frames.count {
      frames.removeFirst(head)
      head = 0
    }
    inFlight -= delivered
    sample(delivered, nowMs: nowMs)
    return true
  }

  private mutating func sample(_ delivered: UInt64, nowMs: UInt64) {
    sampleBytes += delivered
    guard let start = sampleStartMs, nowMs >= start + Self.sampleMs else { return }
    let measured = sampleBytes * 1000 / (nowMs - start)
    // A sample in which the sender was idle says how fast QEMU dirties, not what the link carries.
    if sampleWasLimited || measured > rate?.bytesPerSecond ?? 0 {
      let smoothed = rate.map { ($0.bytesPerSecond * 3 + measured) / 4 } ?? measured
      rate = ByteRate(bytesPerSecond: smoothed) ?? rate
    }
    (sampleBytes, sampleStartMs) = (0, inFlight > 0 ? nowMs : nil)
    sampleWasLimited = false
    guard let rate else { return }
    let span = (roundTripMinMs ?? 0) + Self.slackMs
    let (product, overflow) = rate.bytesPerSecond.multipliedReportingOverflow(by: span)
    limit = min(max(overflow ? .max : product / 1000 * 5 / 4, Self.limitMin), limitMax)
  }
}
