import Agent
import HostIO

/// Experiments that belong together, by the names of those that come with the program. `about` is one line for people.
///
/// ```toml
/// about = "a first look"
/// experiments = ["quick-idle", "quick-hot"]
/// ```
public struct LabSuite: Sendable, Equatable {
  public static let folder = "share/suites"

  /// The file's name.
  public var name: String
  public var about: String
  public var experiments: [String]

  /// All that come with the program, by name.
  public static func shipped() -> [LabSuite] {
    guard let folder = try? ShippedFolder.path(folder) else { return [] }
    return ProcFile.names(in: folder).filter { $0.hasSuffix(".toml") }.sorted().compactMap {
      try? load("\(folder)/\($0)")
    }
  }

  static func load(_ path: String) throws -> LabSuite {
    guard let text = try ConfigurationFile.text(path) else {
      throw ConfigurationError(path: path, "the file does not exist or cannot be read")
    }
    let file = try ConfigurationFile.decode(
      File.self, text, path: path, known: File.CodingKeys.allCases.map(\.rawValue))
    guard !file.experiments.isEmpty, Set(file.experiments).count == file.experiments.count else {
      throw ConfigurationError(path: path, "experiments: none, or one twice")
    }
    let name = path.split(separator: "/").last.map { String($0.dropLast(".toml".count)) } ?? path
    return LabSuite(name: name, about: file.about, experiments: file.experiments)
  }

  private struct File: Decodable {
    enum CodingKeys: String, CodingKey, CaseIterable { case about, experiments }
    var about: String
    var experiments: [String]
  }
}
