public import Base

/// When a pull ends, at the pace at which pages were given in the last seconds. Pure.
///
/// While nothing is given there is no end to name: the connection is broken, or silent and nobody has noticed yet.
/// Then it says for how long. What little trickles through a link that is being cut would foretell days.
public struct PullEta: Sendable, Equatable {
  /// How long a look counts, in milliseconds.
  static let windowMs: UInt64 = 5000
  /// Looks closer together than this count once, in milliseconds.
  static let spacingMs: UInt64 = 200
  /// A connection over which nothing was given for so long is waited for, in milliseconds.
  public static let silentMs: UInt64 = 2000

  /// How far a pull is, in pages.
  public struct Look: Sendable, Equatable {
    /// Given so far, in any way; never falls.
    public let given: UInt64
    /// Those of them that crossed the network; never falls.
    public let crossed: UInt64
    /// That will still cross it.
    public let left: UInt64
    /// The agents can reach each other, as far as they know.
    public let isConnected: Bool
    /// What a page was on the wire so far, in bytes; nil: nothing is known of it, and it goes as it is.
    public let wireBytesPerPage: UInt64?

    public init(
      given: UInt64, crossed: UInt64, left: UInt64, isConnected: Bool,
      wireBytesPerPage: UInt64? = nil
    ) {
      (self.given, self.crossed) = (given, crossed)
      (self.left, self.isConnected) = (left, isConnected)
      self.wireBytesPerPage = wireBytesPerPage
    }
  }

  private struct Mark: Sendable, Equatable {
    let atMs, crossed: UInt64
  }

  /// Of the time since pages are given without a break.
  private var marks: [Mark] = []
  /// When something was given last, and how much it was by then.
  private var moved: (atMs: UInt64, given: UInt64)?

  /// Milliseconds to the end; nil: none can be named.
  public private(set) var etaMs: UInt64?
  /// Milliseconds for which nothing was given although something is owed; nil: it goes on.
  public private(set) var waitedMs: UInt64?

  public init() {}

  public static func == (a: Self, b: Self) -> Bool {
    a.marks == b.marks && a.etaMs == b.etaMs && a.waitedMs == b.waitedMs
      && a.moved?.atMs == b.moved?.atMs && a.moved?.given == b.moved?.given
  }

  /// - Parameter linkRate: what the link carries, believed until there is a pace.
  public mutating func note(_ look: Look, linkRate: ByteRate? = nil, nowMs: UInt64) {
    let isMoving = moved.map { look.given > $0.given } ?? true
    if isMoving { moved = (nowMs, look.given) }
    let stillMs = nowMs.minusFloored(moved?.atMs ?? nowMs)
    // Who waited goes on waiting until something comes.
    let isSilent = look.left > 0 && (stillMs >= Self.silentMs || (waitedMs != nil && !isMoving))
    guard look.isConnected, !isSilent else {
      (waitedMs, etaMs, marks) = (stillMs, nil, [])
      return
    }
    waitedMs = nil
    mark(look, nowMs: nowMs)
    etaMs = look.left == 0 ? 0 : remainingMs(look, nowMs: nowMs) ?? linkMs(look, linkRate)
  }

  private mutating func mark(_ look: Look, nowMs: UInt64) {
    if let last = marks.last, nowMs < last.atMs.addingSaturating(Self.spacingMs) { return }
    marks.removeAll { nowMs > $0.atMs.addingSaturating(Self.windowMs) }
    marks.append(Mark(atMs: nowMs, crossed: look.crossed))
  }

  /// Nil: nothing has crossed yet that could be timed.
  private func remainingMs(_ look: Look, nowMs: UInt64) -> UInt64? {
    guard let first = marks.first, nowMs > first.atMs, look.crossed > first.crossed else {
      return nil
    }
    return look.left.scaled(by: nowMs - first.atMs, over: look.crossed - first.crossed)
  }

  private func linkMs(_ look: Look, _ rate: ByteRate?) -> UInt64? {
    let pageBytes = look.wireBytesPerPage ?? UInt64(Page.size)
    return rate?.milliseconds(for: ByteCount(look.left.scaled(by: pageBytes, over: 1)))
  }
}
