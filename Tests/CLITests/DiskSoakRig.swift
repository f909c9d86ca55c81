import Base
import Foundation
import Glibc
import HostIO
import Testing

@testable import Agent

/// A disk that moves from one server to another over a link that can break, with a surrogate's server and a backup's.
struct DiskSoakRig {
  static let byteCount = 24 << 20
  private static let content = randomImage(byteCount: byteCount, seed: 11)
  /// For the end of a move, in milliseconds: a surrogate or destination is waited for, too.
  private static let endMs: UInt64 = 120_000

  /// Servers by what they are to the move.
  enum Place: String, CaseIterable { case source, destination, surrogate, backup }

  let method: String
  private let folder = "/tmp/godwit-soak-\(UUID().uuidString.prefix(8))"
  private var servers: [Place: ChildProcess] = [:]
  private let link: LinkCutter
  var disk: ExpectedDisk

  /// Which servers a method has.
  static func places(_ method: String) -> [Place] {
    Place.allCases.filter {
      ($0 != .surrogate || method == "waio") && ($0 != .backup || method == "snapmig")
    }
  }

  init(_ method: String) async throws {
    self.method = method
    try PrivateDirectory.make(folder)
    disk = ExpectedDisk([UInt8](Self.content))
    link = try LinkCutter(at: folder + "/link.sock", to: folder + "/destination.sock")
    for place in Self.places(method) { try makeImage(place) }
    for place in Self.places(method) { try await start(place) }
    switch method {
    case "snapmig": try await order(["snapshot", "x", "--manifest", manifest])
    case "incremental":
      let base = "nbd+unix:///x?socket=\(socket(.destination))"
      let made = try await CommandProcess(["block", "manifest", base, "--output", manifest]).end()
      #expect(made.status == 0, "\(made)")
    default: break
    }
  }

  private func image(_ place: Place) -> String { "\(folder)/\(place).raw" }
  func socket(_ place: Place) -> String { "\(folder)/\(place).sock" }
  private var manifest: String { folder + "/manifest" }

  private func makeImage(_ place: Place) throws {
    let path = image(place)
    switch place {
    case .source, .backup: try Self.content.write(to: URL(filePath: path))
    case .destination, .surrogate:
      // An older copy has half of it.
      let isOlder = place == .destination && method == "incremental"
      try Self.content.prefix(isOlder ? Self.byteCount / 2 : 0).write(to: URL(filePath: path))
      truncate(path, off_t(place == .surrogate ? 40 << 20 : Self.byteCount))
    }
  }

  mutating func start(_ place: Place) async throws {
    let child = try ChildProcess(
      try #require(CommandProcess.binary),
      ["block", "serve", image(place), "--socket", socket(place), "--export-name", "x"])
    servers[place] = child
    for path in [socket(place), socket(place) + ".control"] {
      while (try? UnixSocket.connect(path: path)) == nil {
        guard child.exit == nil else { throw SystemError("serve the \(place)", code: ECHILD) }
        try await Task.sleep(for: .milliseconds(10))
      }
    }
  }

  /// As a crash would end it.
  mutating func kill(_ place: Place) async {
    guard let server = servers.removeValue(forKey: place) else { return }
    server.send(signal: SIGKILL)
    _ = await server.wait()
  }

  func cut() { link.cut() }

  @discardableResult
  private func block(_ arguments: [String]) async throws -> (status: Int32, output: String) {
    try await CommandProcess(["block"] + arguments + ["--socket", socket(.source)]).end()
  }

  private func order(_ arguments: [String]) async throws {
    let end = try await block(arguments)
    #expect(end.status == 0, "\(arguments): \(end)")
  }

  private var arguments: [String] {
    let own: [String] =
      switch method {
      case "waio":
        ["--surrogate", "nbd+unix:///x?socket=\(socket(.surrogate))", "--popular-reads", "2"]
      case "snapmig":
        ["--manifest", manifest, "--backup", "nbd+unix:///x?socket=\(socket(.backup))"]
      case "incremental": ["--base-manifest", manifest]
      default: []
      }
    return ["move", "x", "nbd+unix:///x?socket=\(folder)/link.sock", "--method", method] + own
  }

  /// Begins a move, or goes on with one that a server's death has interrupted; nothing where one is under way.
  func move() async throws {
    if let phase = try await status()["phase"] as? String, phase != "interrupted" { return }
    // A destination that is just being started again is waited for.
    let startMs = MonotonicClock.nowMs
    while true {
      let begun = try await block(
        arguments + ["--then", "wait", "--detach", "--bandwidth", "12MiB/s"])
      if begun.status == 0 { return }
      guard MonotonicClock.nowMs - startMs < 60_000 else {
        Issue.record("the move does not begin: \(begun)")
        return
      }
    }
  }

  /// Nothing where there is no move.
  private func status() async throws -> [String: Any] {
    let line = try await block(["status", "x", "--json"]).output.split(separator: "\n").last
    guard let line else { return [:] }
    return try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any] ?? [:]
  }

  /// Ends the move with a copy of the disk, whatever state it is in.
  func finish() async throws {
    let startMs = MonotonicClock.nowMs
    var now = try await status()
    while now["phase"] as? String != "copied" || now["surrogate"] as? [String: Any] != nil {
      guard MonotonicClock.nowMs - startMs < Self.endMs else {
        Issue.record("no end: \(now)")
        return
      }
      switch now["phase"] as? String {
      case nil, "interrupted": try await block(arguments + ["--then", "copy", "--detach"])
      case "paused": try await block(["resume", "x"])
      case "copied": break
      default: try await block(["finish", "x", "--then", "copy"])
      }
      try await Task.sleep(for: .milliseconds(50))
      now = try await status()
    }
  }

  /// Every sector of both images, with no server left.
  mutating func compare() async throws {
    #expect(try await disk.check(at: socket(.source), whole: true) == nil)
    for server in servers.values { await server.stop() }
    servers = [:]
    link.close()
    for place in [Place.source, .destination] {
      let bytes = [UInt8](try Data(contentsOf: URL(filePath: image(place))))
      #expect(disk.holds(0..<Self.byteCount, bytes), "\(place)")
    }
    for name in ["", ".surrogate"] {
      #expect(
        !FileManager.default.fileExists(atPath: image(.source) + ".godwit-map" + name), "\(name)")
    }
    try FileManager.default.removeItem(atPath: folder)
  }
}
