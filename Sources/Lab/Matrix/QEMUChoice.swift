/// Which QEMU a scenario runs a guest with, out of its name: `newest`, the lab's own; `installed`, the distribution's; or a
/// path. One for both sides, or two: `installed -> newest`, as hosts have while they are upgraded one by one.
struct QEMUChoice: Sendable, Equatable {
  let source, destination: String

  /// Nil: a side has no name, or there are more than two.
  init?(_ name: String) {
    let sides = name.split(separator: " -> ", omittingEmptySubsequences: false).map(String.init)
    guard let first = sides.first, let last = sides.last, sides.count <= 2,
      !sides.contains(where: { $0.isEmpty || $0.contains("->") })
    else { return nil }
    (source, destination) = (first, last)
  }

  var isSame: Bool { source == destination }

  /// The program of a side; nil: the lab's own.
  static func path(_ side: String) -> String? {
    switch side {
    case "newest": nil
    case "installed": QEMUProgram.installedPath
    default: side
    }
  }
}
