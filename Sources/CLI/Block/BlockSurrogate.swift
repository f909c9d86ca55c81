import Agent
import Base
import BlockStore
import DiskStrategy

/// Surrogates by name.
enum BlockSurrogate {
  /// An absolute path of a file or device, or the URI of an export.
  ///
  /// - Parameter folder: of certificates.
  static func find(_ name: String, _ folder: String) throws -> SurrogatePlace {
    if let address = NBDAddress(name) {
      let export = address.destination(folder)
      return SurrogatePlace(name: name, export: export)
    }
    guard name.hasPrefix("/"), !name.contains(where: \.isNewline) else {
      throw ControlError(
        .usage, "\(TerminalText.plain(name)) is neither an absolute path nor the URI of an export")
    }
    return SurrogatePlace(name: name) { try FileStore(path: name) }
  }

  static func line(_ surrogate: SurrogateStatus) -> String {
    let count = ByteCount(surrogate.onlyHereBytes)
    let state =
      switch surrogate.phase {
      case .opening: "surrogate opening"
      case .inUse: "\(count) in the surrogate"
      case .returning: "\(count) in the surrogate yet to come back"
      }
    return state + (surrogate.problem.map { " (\(TerminalText.plain($0)))" } ?? "")
  }
}
