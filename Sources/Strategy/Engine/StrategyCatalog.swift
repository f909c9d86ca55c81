import Synchronization

/// Strategies that a program built on Godwit brings along: they are then there by their names in everything that it
/// does, migrations, the simulator, the lab. See `Examples/` and `Docs/own-strategies.md`.
public enum StrategyCatalog {
  /// Makes a machine for one migration. It is held to the user's time as Godwit's own are (`DeadlineGuard`).
  public typealias Maker =
    @Sendable (StrategyName, MigrationConstraints, EngineFacts) -> any MigrationStrategy

  /// Why a strategy isn't added.
  public enum Refusal: Error, Equatable, Sendable {
    /// A name has lower-case letters, digits and dashes.
    case notAName(String)
    case nameIsTaken(String)
  }

  private static let entries = Mutex<[(name: StrategyName, make: Maker)]>([])

  /// Adds a strategy. For the first lines of a program: names that were listed before lack it.
  public static func add(_ name: String, make: @escaping Maker) throws(Refusal) {
    let isName =
      !name.isEmpty
      && name.utf8.allSatisfy { byte in
        (97...122).contains(byte) || (48...57).contains(byte) || byte == 45
      }
    guard isName else { throw .notAName(name) }
    let isNew = entries.withLock { entries in
      let taken = StrategyName.own + entries.map(\.name)
      guard !taken.contains(where: { $0.rawValue == name }) else { return false }
      entries.append((StrategyName(name), make))
      return true
    }
    guard isNew else { throw .nameIsTaken(name) }
  }

  static var added: [StrategyName] { entries.withLock { $0.map(\.name) } }

  static func maker(of name: StrategyName) -> Maker? {
    entries.withLock { entries in entries.first { $0.name == name }?.make }
  }
}
