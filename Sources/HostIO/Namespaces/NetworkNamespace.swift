import CLinux
import Glibc

/// A named network namespace, made and removed with `ip netns`. Needs root.
public struct NetworkNamespace: Sendable, Hashable {
  public let name: String

  /// Names a namespace; nothing is made before `create`.
  public init(name: String) { self.name = name }

  /// Where `ip netns` binds it.
  public var path: String { "/run/netns/\(name)" }

  /// `[program] + arguments` as it has to be started to run inside.
  public func command(_ program: String, _ arguments: [String]) -> (String, [String]) {
    ("ip", ["netns", "exec", name, program] + arguments)
  }

  /// Throws where there is one of that name, or the right to make it is missing. `lo` is up
  /// afterwards.
  public func create() async throws {
    try await Command.run("ip", ["netns", "add", name])
    try await ip("link", "set", "lo", "up")
  }

  /// Removes it with every interface in it. Processes inside keep it alive: end them first.
  public func delete() async throws { try await Command.run("ip", ["netns", "delete", name]) }

  /// `ip` inside.
  @discardableResult
  public func ip(_ arguments: String...) async throws -> String {
    try await Command.run("ip", ["-netns", name] + arguments)
  }

  /// `tc` inside.
  @discardableResult
  public func tc(_ arguments: String...) async throws -> String {
    try await Command.run("tc", ["-netns", name] + arguments)
  }

  /// Pids of those inside, as the caller's namespace has them.
  public func processes() async throws -> [Int32] {
    try await Command.run("ip", ["netns", "pids", name]).split(whereSeparator: \.isWhitespace)
      .compactMap { Int32($0) }
  }

  /// All namespaces that `ip netns` knows.
  public static func all() async throws -> [NetworkNamespace] {
    try await Command.run("ip", ["netns", "list"]).split(separator: "\n").compactMap { line in
      line.split(separator: " ").first.map { NetworkNamespace(name: String($0)) }
    }
  }

  /// Takes the calling thread inside, for good: only for threads of our own.
  public func enter() throws(SpawnError) {
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw failure("cannot open") }
    defer { close(file) }
    guard godwit_setns(file, Int32(0x4000_0000 /* CLONE_NEWNET */)) == 0 else {
      throw failure("cannot enter")
    }
  }

  /// Bytes received and sent by `interface`, from the kernel's counters.
  public func traffic(of interface: String) async throws -> InterfaceTraffic {
    try await WorkerThread.run("traffic") {
      try enter()
      return try InterfaceTraffic.current(of: interface)
    }
  }

  private func failure(_ what: String) -> SpawnError {
    SpawnError(
      program: "netns \(name)", detail: "\(what): \(unsafe String(cString: strerror(errno)))")
  }
}

/// An interface's byte counters, link-layer headers included.
public struct InterfaceTraffic: Sendable, Equatable {
  public let receivedBytes, sentBytes: UInt64

  public init(receivedBytes: UInt64, sentBytes: UInt64) {
    (self.receivedBytes, self.sentBytes) = (receivedBytes, sentBytes)
  }

  /// Reads the counters in the calling thread's namespace: `/proc/thread-self/net/dev`, because
  /// `/sys` keeps showing the namespace that it was mounted in.
  public static func current(of interface: String) throws(SpawnError) -> InterfaceTraffic {
    let path = "/proc/thread-self/net/dev"
    let text = try SmallFile.read(path)
    guard let traffic = parse(text, interface: interface) else {
      throw SpawnError(program: path, detail: "has no interface \(interface)")
    }
    return traffic
  }

  /// One line of `/proc/net/dev`: `name: rxBytes 7 more rx counters, txBytes ...`.
  static func parse(_ text: String, interface: String) -> InterfaceTraffic? {
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2, parts[0].drop(while: { $0 == " " }) == interface else { continue }
      let fields = parts[1].split(separator: " ")
      guard fields.count >= 9, let received = UInt64(fields[0]), let sent = UInt64(fields[8]) else {
        return nil
      }
      return InterfaceTraffic(receivedBytes: received, sentBytes: sent)
    }
    return nil
  }
}
