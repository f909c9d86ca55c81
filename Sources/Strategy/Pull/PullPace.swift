import Base

/// How many pages a pull asks for ahead of faults: enough to keep the link busy and no more, because the
/// answer to a fault stands behind all of them on the link. Pure.
///
/// One request at a time is timed. The best rate of the last samples, times the shortest time that an
/// answer ever took and a short queue on top, is what may be on its way: the product of bandwidth and delay, as
/// in BBR (Cardwell and others, 2016). At first the number doubles with each sample, until a queue shows.
///
/// Answers that come unevenly show no queue: as much as they differ from one to the next, smoothed as in RFC 3550
/// (6.4.1), they may be late, and only several late ones in a row, as in CoDel (Nichols and Jacobson 2012), or one that is
/// far too late make the number smaller. A fixed allowance let it fall to the fewest pages on a link of 20 ms
/// each way whose ends were busy: 7,000 pages took 8.6 s, a twentieth of the link.
///
/// When the answers stay slow with the fewest pages on their way, the shortest time is another now: it begins anew.
public struct PullPace: Sendable {
  /// Pages; at least 1.
  public static let pagesMin = 32
  public static let pagesAtStart = 64
  public static let pagesMax = 8192
  /// What a fault may have to wait behind pages asked for ahead; an eighth of the shortest answer's time where that
  /// is longer.
  static let queueUs: UInt64 = 2000
  /// Slow samples in a row after which the way itself has become longer.
  private static let slowMax = 8
  /// Late samples in a row that are a queue.
  private static let lateMax = 4

  /// Pages that may be asked for ahead and not there yet.
  public private(set) var pages: Int
  private let pagesMost: Int
  private var timed: (page: Int, askedAtUs: UInt64, arrivedBefore: UInt64)?
  private var arrivedCount: UInt64 = 0
  private var shortestUs: UInt64?
  private var lastUs: UInt64?
  /// By how much an answer's time differs from the one before it, smoothed.
  private var jitterUs: UInt64 = 0
  /// Samples in a row that took longer than they should.
  private var lateInARow = 0
  /// Samples in a row that took longer than they should although little is on its way.
  private var slowInARow = 0
  private var isStarting = true
  /// Pages a second.
  private var rates = RecentRates()

  /// - Parameter pagesMax: bounds `pages`, at least 1.
  public init(pagesMax: Int = Self.pagesMax) {
    pagesMost = max(pagesMax, 1)
    pages = min(Self.pagesAtStart, pagesMost)
  }

  /// Pages are asked for ahead; `last` comes behind the others.
  mutating func asked(last: Int, nowUs: UInt64) {
    if timed == nil { timed = (last, nowUs, arrivedCount) }
  }

  /// A page that was asked for ahead became urgent: its time says nothing of the others'.
  mutating func overtakes(_ page: Int) {
    if timed?.page == page { timed = nil }
  }

  /// A page that was missing is here.
  mutating func arrived(_ page: Int, nowUs: UInt64) {
    arrivedCount += 1
    guard let timed, timed.page == page else { return }
    self.timed = nil
    let tookUs = max(nowUs > timed.askedAtUs ? nowUs - timed.askedAtUs : 0, 1)
    rates.note((arrivedCount - timed.arrivedBefore).scaled(by: 1_000_000, over: tookUs))
    let shortest = min(shortestUs ?? tookUs, tookUs)
    shortestUs = shortest
    note(jitter: tookUs)
    let boundUs = shortest.addingSaturating(max(Self.queueUs, shortest / 8, jitterUs))
    lateInARow = tookUs > boundUs ? lateInARow + 1 : 0
    // With so little on its way no queue is ours: the way itself has become longer.
    slowInARow = tookUs > boundUs && pages <= Self.pagesMin ? slowInARow + 1 : 0
    if slowInARow >= Self.slowMax {
      (shortestUs, slowInARow, lateInARow, isStarting) = (tookUs, 0, 0, true)
      return
    }
    let needed = Int(clamping: (rates.best ?? 0).scaled(by: boundUs, over: 1_000_000))
    let isQueue = lateInARow >= Self.lateMax || tookUs / 2 > boundUs
    if isQueue { (isStarting, lateInARow) = (false, 0) }
    let wanted =
      isQueue ? needed : lateInARow > 0 ? pages : isStarting ? pages * 2 : max(needed, pages)
    // Never by leaps: one sample may be wrong.
    let bounded = min(max(wanted, pages - pages / 4), pages * 2)
    pages = min(max(bounded, Self.pagesMin), Self.pagesMax, pagesMost)
  }

  /// The connections broke: what was timed will never arrive, and the next ones may be another link.
  mutating func forget() { self = PullPace(pagesMax: pagesMost) }

  private mutating func note(jitter tookUs: UInt64) {
    if let lastUs {
      let differenceUs = max(tookUs, lastUs) - min(tookUs, lastUs)
      jitterUs = jitterUs - jitterUs / 8 + differenceUs / 8
    }
    lastUs = tookUs
  }
}
