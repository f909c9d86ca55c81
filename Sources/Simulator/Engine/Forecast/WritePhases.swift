/// How a guest's writes differ from one part of a short look to the next: phases of work that take longer than any look.
/// Pure.
///
/// A guest whose parts differ no more than samples of a steady one do has none. Of another nobody knows how long its
/// phases are, nor which comes next: a run goes from one to another by lot, and keeps each as long as a part or up to
/// `lengthFactors` times that, as long for the whole run. So a move that is shorter than the phases may meet any of them, and
/// one that is longer meets their mean.
public struct WritePhases: Sendable, Equatable {
  /// Pages found dirtied in one of the parts, with the bounds of nine tenths of such samples.
  public struct Window: Sendable, Equatable {
    public var pages, lowPages, highPages: UInt64

    public init(pages: UInt64, lowPages: UInt64, highPages: UInt64) {
      (self.pages, self.lowPages, self.highPages) = (pages, lowPages, highPages)
    }
  }

  /// How many parts a phase may last: unknown over more than a magnitude, so each doubling is as likely.
  static let lengthFactors = [1.0, 2, 4, 8, 16]
  /// The most pages found in a part must be so many times the fewest.
  static let ratioMin = 1.5
  /// Parts must differ so many times more than samples do, as variances: four parts of a steady guest do so in one look of
  /// thirty (chi-squared), and seldom by `ratioMin`.
  static let excessMin = 3.0
  /// A normal deviate is within ± 1.645 nine times of ten.
  private static let deviate = 1.645

  /// Of the mean rate of writes, by part; at least two, and none below 0.05.
  public let factors: [Double]
  /// Of a part, at least 1.
  public let windowMs: UInt64

  /// Nil: the guest writes alike all the time, as far as such a sample shows.
  public init?(_ windows: [Window], windowMs: UInt64) {
    guard windows.count >= 2, windowMs > 0 else { return nil }
    let counts = windows.map { Double($0.pages) }
    let mean = counts.reduce(0, +) / Double(counts.count)
    guard mean > 0, let most = counts.max(), let fewest = counts.min(),
      most >= fewest * Self.ratioMin
    else { return nil }
    let variance =
      counts.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(counts.count - 1)
    let noise =
      windows.reduce(0.0) { sum, window in
        let width = Double(max(window.highPages, window.lowPages) - window.lowPages)
        let deviation = width / 2 / Self.deviate
        return sum + deviation * deviation
      } / Double(windows.count)
    guard variance > noise * Self.excessMin else { return nil }
    // What the sample explains is taken off.
    let share = ((variance - noise) / variance).squareRoot()
    factors = counts.map { max(1 + share * ($0 / mean - 1), 0.05) }
    self.windowMs = windowMs
  }

  /// One run's way through the phases.
  struct Walk: Sendable {
    private let phases: WritePhases
    private let lengthMs: Double
    private var endMs: Double
    private(set) var factor: Double

    init(_ phases: WritePhases, fromMs: Double, noise: inout Noise) {
      self.phases = phases
      let lengths = WritePhases.lengthFactors
      lengthMs = lengths[Self.draw(lengths.count, &noise)] * Double(phases.windowMs)
      // It begins somewhere within one.
      endMs = fromMs + lengthMs * noise.uniform()
      factor = phases.factors[Self.draw(phases.factors.count, &noise)]
    }

    mutating func move(toMs ms: Double, noise: inout Noise) {
      guard ms >= endMs else { return }
      factor = phases.factors[Self.draw(phases.factors.count, &noise)]
      endMs = max(endMs + lengthMs, ms)
    }

    private static func draw(_ count: Int, _ noise: inout Noise) -> Int {
      min(Int(noise.uniform() * Double(count)), count - 1)
    }
  }
}
