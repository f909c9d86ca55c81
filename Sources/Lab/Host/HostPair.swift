public import Base
import Glibc
public import HostIO

/// The two hosts that a guest moves between, and the place of the client outside.
///
/// With root: three network namespaces.
/// ```
///   client namespace      br0 10.77.0.1/24 ── clients connect to the guest, 10.77.0.10
///                        ┌─┴─┐
///   source namespace  up0│   │up0  destination namespace
///              br0 ─ tap0     tap0 ─ br0
///              mig0 10.78.0.1 ══ tbf ══ mig0 10.78.0.2        the migration network
/// ```
/// With latency the link leads through a fourth namespace, where a `DelayLine` holds every frame for that time.
/// Without root: everything on the loopback interface; no link to shape and none to count bytes on.
public struct HostPair: Sendable {
  /// Hosts of their own, which need root, or two names for this one.
  public enum Kind: Sendable, Equatable { case namespaces, loopback }
  public enum Side: String, Sendable, CaseIterable { case source, destination }

  public let kind: Kind
  /// Bytes per second of the migration link, each way.
  public let linkBytesPerSecond: UInt64
  /// Of the migration link, each way.
  public let linkLatencyMs: UInt64
  let prefix: String
  private var distance: DelayLine?

  /// 1 Gbit/s.
  static let defaultLinkBytesPerSecond: UInt64 = 125_000_000
  static let guestAddress = "10.77.0.10"
  static let migrationInterface = "mig0"
  /// Taps of a guest; interfaces of a namespace need no prefix.
  static let tap = "tap0"

  /// Whether namespaces can be made here; else the reason.
  public static func whyNoNamespaces() async -> String? {
    guard geteuid() == 0 else { return "this is not root" }
    let trial = NetworkNamespace(
      name: "\(RunFolder.namespacePrefix)probe\(getpid())-\(UInt32.random(in: 0...9999))")
    do {
      try await trial.create()
      try await trial.delete()
      return nil
    } catch {
      return "\(error)"
    }
  }

  /// Makes the hosts. What was made is removed when a step fails.
  public static func create(
    kind: Kind, linkRate: ByteRate?, latencyMs: UInt64 = 0, folder: RunFolder
  ) async throws -> HostPair {
    guard kind == .namespaces || latencyMs == 0 else {
      throw LabError("a link with latency needs namespaces: run as root")
    }
    var pair = HostPair(
      kind: kind, linkBytesPerSecond: linkRate?.bytesPerSecond ?? defaultLinkBytesPerSecond,
      linkLatencyMs: latencyMs, prefix: folder.prefix)
    guard kind == .namespaces else { return pair }
    do {
      try await pair.build()
      return pair
    } catch {
      await pair.remove()
      throw error
    }
  }

  /// Exists only where `kind` is `namespaces`.
  public func namespace(_ side: Side) -> NetworkNamespace {
    NetworkNamespace(name: prefix + (side == .source ? "s" : "d"))
  }
  /// Where the guest's clients are; nil without namespaces.
  public var clientNamespace: NetworkNamespace? {
    kind == .namespaces ? NetworkNamespace(name: prefix + "c") : nil
  }

  /// The side's address on the migration network.
  public func address(_ side: Side) -> String {
    guard kind == .namespaces else { return "127.0.0.1" }
    return side == .source ? "10.78.0.1" : "10.78.0.2"
  }

  /// `program` as it has to be started to run on one of the hosts.
  public func command(on side: Side, _ program: String, _ arguments: [String]) -> (String, [String])
  {
    kind == .namespaces ? namespace(side).command(program, arguments) : (program, arguments)
  }

  /// Bytes that crossed the migration link, both directions, headers included; nil on loopback.
  public func wireBytes() async throws -> UInt64? {
    guard kind == .namespaces else { return nil }
    let traffic = try await namespace(.source).traffic(of: Self.migrationInterface)
    return traffic.sentBytes + traffic.receivedBytes
  }

  /// Ends what still runs on the hosts and removes them.
  public func remove() async {
    guard kind == .namespaces else { return }
    distance?.stop()
    await Leftovers.removeNamespaces(prefix: prefix)
  }

  private mutating func build() async throws {
    guard let client = clientNamespace else { return }
    let (source, destination) = (namespace(.source), namespace(.destination))
    for namespace in [source, destination, client] { try await namespace.create() }
    try await bridge(in: client)
    try await client.ip("address", "add", "10.77.0.1/24", "dev", "br0")
    for side in Side.allCases {
      let host = namespace(side)
      try await bridge(in: host)
      let port = "to-\(side == .source ? "s" : "d")"
      try await client.ip(
        "link", "add", port, "type", "veth", "peer", "name", "up0", "netns", host.name)
      try await attach(port, in: client)
      try await attach("up0", in: host)
      try await host.ip("tuntap", "add", Self.tap, "mode", "tap")
      try await attach(Self.tap, in: host)
    }
    let link = Self.migrationInterface
    if linkLatencyMs > 0 {
      try await buildDistance()
    } else {
      try await source.ip(
        "link", "add", link, "type", "veth", "peer", "name", link, "netns", destination.name)
    }
    for side in Side.allCases {
      let host = namespace(side)
      try await host.ip("address", "add", "\(address(side))/30", "dev", link)
      try await host.ip("link", "set", link, "up")
      try await shapeLink(side, "add")
    }
  }

  /// A link that leads through a namespace between the hosts.
  private mutating func buildDistance() async throws {
    let middle = NetworkNamespace(name: prefix + "m")
    try await middle.create()
    for (side, name) in [(Side.source, "far-s"), (.destination, "far-d")] {
      try await namespace(side).ip(
        "link", "add", Self.migrationInterface, "type", "veth", "peer", "name", name, "netns",
        middle.name)
      try await middle.ip("link", "set", name, "up")
    }
    distance = try await DelayLine.start(
      in: middle, between: ("far-s", "far-d"), latencyMs: linkLatencyMs,
      bytesPerSecond: linkBytesPerSecond)
  }

  /// Limits what `side` sends on the migration link; `divisor` of the link's rate is left.
  func shapeLink(_ side: Side, _ verb: String, divisor: UInt64 = 1) async throws {
    let bitsPerSecond = max(linkBytesPerSecond * 8 / max(divisor, 1), 1)
    try await namespace(side).tc(
      "qdisc", verb, "dev", Self.migrationInterface, "root", "tbf", "rate", "\(bitsPerSecond)bit",
      "burst", "512kb", "latency", "50ms")
  }

  private func bridge(in host: NetworkNamespace) async throws {
    try await host.ip("link", "add", "br0", "type", "bridge", "forward_delay", "0")
    try await host.ip("link", "set", "br0", "up")
  }

  private func attach(_ interface: String, in host: NetworkNamespace) async throws {
    try await host.ip("link", "set", interface, "master", "br0")
    try await host.ip("link", "set", interface, "up")
  }
}
