import Base
import HostIO
import TOMLKit

/// A file of the operator's that cannot be used.
public struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
  public let path: String
  public let problem: String

  public init(path: String, _ problem: String) { (self.path, self.problem) = (path, problem) }

  public var description: String { "\(path): \(problem)" }
}

/// Reads and decodes files that people write.
public enum ConfigurationFile {
  /// The file's text; nil when there is none. Throws `ConfigurationError` where it can't be read, is too large or is no text.
  public static func text(_ path: String) throws -> String? {
    guard let bytes = ProcFile.bytes(path, limit: AgentConfiguration.fileSizeMax + 1) else {
      // One that is there says something: going on without it would be going on with defaults.
      guard !SmallFile.exists(path) else { throw ConfigurationError(path: path, "can't be read") }
      return nil
    }
    guard bytes.count <= AgentConfiguration.fileSizeMax else {
      throw ConfigurationError(
        path: path, "larger than \(AgentConfiguration.fileSizeMax) bytes")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw ConfigurationError(path: path, "not UTF-8")
    }
    return text
  }

  /// Decodes strictly: a key nobody knows is a mistake that must not be passed over in silence.
  ///
  /// - Parameter known: all keys that may occur, to name the nearest one.
  public static func decode<Value: Decodable>(
    _: Value.Type, _ text: String, path: String, known: [String]
  ) throws -> Value {
    do {
      return try TOMLDecoder(strictDecoding: true).decode(Value.self, from: text)
    } catch let error as TOMLParseError {
      throw ConfigurationError(
        path: path, "\(error.description) (\(error.source.debugDescription))")
    } catch let error as UnexpectedKeysError {
      let keys = error.keys.keys.sorted().map { key in
        let nearest = NearestName.of(key, among: known)
        return "\"\(key)\"" + (nearest.map { " (did you mean \($0)?)" } ?? "")
      }
      throw ConfigurationError(path: path, "unknown key \(keys.joined(separator: ", "))")
    } catch let error as DecodingError {
      throw ConfigurationError(path: path, describe(error))
    }
  }

  private static func describe(_ error: DecodingError) -> String {
    func place(_ context: DecodingError.Context) -> String {
      context.codingPath.map(\.stringValue).joined(separator: ".")
    }
    return switch error {
    case .keyNotFound(let key, _): "the key \(key.stringValue) is missing"
    case .typeMismatch(let type, let context): "\(place(context)): not of type \(type)"
    case .valueNotFound(_, let context): "\(place(context)): no value"
    case .dataCorrupted(let context): "\(place(context)): \(context.debugDescription)"
    @unknown default: "\(error)"
    }
  }
}
