/// Kernels of the NAS Parallel Benchmarks, written from their definition (Bailey et al., "The NAS Parallel
/// Benchmarks", RNR-94-007, and the classes and check values published with NPB 3). The serial algorithms; each
/// run ends with the published check.
enum NASKernel: String, CaseIterable, Sendable {
  /// Gaussian pairs out of uniform ones: processor alone.
  case pairs = "ep"
  /// Ranks of integer keys: scattered writes.
  case sort = "is"
  /// The largest eigenvalue of a sparse matrix by conjugate gradients: scattered reads.
  case gradient = "cg"
  /// Poisson's equation by V-cycles over grids: long sweeps over memory.
  case multigrid = "mg"
  /// A heat equation by three-dimensional Fourier transforms: strided sweeps, all of it written.
  case fourier = "ft"
}

/// Sizes of a problem, in NPB's letters.
enum NASClass: String, CaseIterable, Sendable {
  case s = "S"
  case w = "W"
  case a = "A"
}

/// What a run came to, against the published value.
struct NASVerdict: Equatable, Sendable {
  var isVerified: Bool
  /// What was found and what is right, for people.
  var text: String

  init(isVerified: Bool, text: String) { (self.isVerified, self.text) = (isVerified, text) }

  /// Whether `found` is `expected` but for a relative error.
  init(_ name: String, _ found: Double, expected: Double, within error: Double) {
    isVerified = abs((found - expected) / expected) <= error
    text = "\(name) \(found), published \(expected)"
  }
}

extension NASKernel {
  /// Runs the kernel once. `progress` is called every few thousand steps with how many were done since.
  func run(_ size: NASClass, progress: (Int) -> Void) -> NASVerdict {
    switch self {
    case .pairs: NASPairs(size).run(progress: progress)
    case .sort: NASSort(size).run(progress: progress)
    case .gradient: NASGradient(size).run(progress: progress)
    case .multigrid: NASMultigrid(size).run(progress: progress)
    case .fourier: NASFourier(size).run(progress: progress)
    }
  }
}
