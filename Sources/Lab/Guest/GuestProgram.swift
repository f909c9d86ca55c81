import FoundationEssentials
import Glibc
import HostIO

/// The workload that runs inside guests: found ready made, or compiled from its sources.
enum GuestProgram {
  static let name = "guest-workload"

  /// The path of the static program, in this order: `$GODWIT_GUEST_WORKLOAD`; beside an installed
  /// `godwit` (`../libexec/godwit`); compiled from the source tree that the program runs in.
  static func path(cache: CacheFolder) async throws -> String {
    let environment = ProcessInfo.processInfo.environment
    if let given = environment["GODWIT_GUEST_WORKLOAD"] {
      guard SmallFile.isReadable(given) else {
        throw LabError("GODWIT_GUEST_WORKLOAD names \(given), which cannot be read")
      }
      return given
    }
    let executable = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    if let folder = executable.map({
      String($0.prefix(upTo: $0.lastIndex(of: "/") ?? $0.startIndex))
    }) {
      let installed = "\(folder)/../libexec/godwit/\(name)"
      if SmallFile.isReadable(installed) { return installed }
    }
    let starts = [executable ?? "/", FileManager.default.currentDirectoryPath + "/x"]
    guard let sources = starts.lazy.compactMap(sourceFolder).first else {
      throw LabError(
        "missing: the guest's program; run from Godwit's source tree, or set GODWIT_GUEST_WORKLOAD")
    }
    return try await compile(sources, cache: cache)
  }

  /// `Guest/Sources/guest-workload` in a folder above `path`.
  static func sourceFolder(above path: String) -> String? {
    var rest = Substring(path)
    while let slash = rest.lastIndex(of: "/") {
      rest = rest[..<slash]
      let candidate = "\(rest)/Guest/Sources/\(name)"
      if SmallFile.isReadable(candidate + "/main.swift") { return candidate }
    }
    return nil
  }

  private static func compile(_ folder: String, cache: CacheFolder) async throws -> String {
    let files = try FileManager.default.subpathsOfDirectory(atPath: folder)
      .filter { $0.hasSuffix(".swift") }.sorted().map { "\(folder)/\($0)" }
    let version = try await Command.run("swiftc", ["--version"], timeoutMs: 60_000)
    let contents = try files.map { try SmallFile.read($0) }
    let key = CacheFolder.key([version] + contents)
    return try await cache.file(kind: "guest-program", key: key, name: name) { partial in
      try await Command.run(
        "swiftc",
        ["-O", "-wmo", "-swift-version", "6", "-static-executable", "-o", partial] + files,
        timeoutMs: 300_000)
    }
  }
}
