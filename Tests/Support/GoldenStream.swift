public import Foundation
import Glibc
public import Testing

/// A captured stream of `Tests/Golden/stream`, unpacked with the `gzip` program.
public struct GoldenStream: Sendable, CustomTestStringConvertible {
  public let name: String
  public let bytes: [UInt8]
  public var testDescription: String { name }

  /// Where the packed captures are.
  public static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Golden/stream")

  public static let all: [GoldenStream] = {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.filter { $0.hasSuffix(".stream.gz") }.sorted()
      .compactMap { try? named(String($0.dropLast(".stream.gz".count))) }
  }()

  public static func named(_ name: String) throws -> GoldenStream {
    let path = folder.appending(path: "\(name).stream.gz").path
    // Not Foundation's Process: under many at once it traps (corelibs, Linux).
    let output = try #require(popen("exec gzip -dc '\(path)'", "r"))
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = fread(&chunk, 1, chunk.count, output), count > 0 {
      bytes += chunk[..<count]
    }
    try #require(pclose(output) == 0, "no golden stream \(name)")
    return GoldenStream(name: name, bytes: bytes)
  }
}
