public import Base

/// The first frame of a connection: who it is for.
///
/// Layout: version u16, role u8, reserved u8 (0), lane u16, migration id 16 bytes, token 16 bytes.
public struct Hello: Sendable, Hashable {
  /// What the connection is for.
  public enum Role: UInt8, Sendable {
    /// The ordered control lane of a new migration.
    case control = 1
    /// A data lane; `token` proves that the opener was let in on the control lane.
    case data = 2
    /// A question or verdict about a migration begun earlier, after a crash.
    case settle = 3
    /// The control lane of a running migration again, after its connection broke; `token` as for data.
    case resume = 4
    /// A connection of a pull, `lane` 0 for requests and what the guest waits for, others for what is
    /// asked for ahead. For the host that began the migration, as `settle` is; `token` as for data while the session
    /// that received it lives.
    case pull = 5
    /// A look at the link and at what this host would take, for a forecast; nothing begins. Agents that
    /// don't know it refuse it.
    case probe = 6
    /// Requests of the source's QEMU for a disk that moves (NBD) and their answers, from the welcome on; `lane` counts
    /// the connections from 1, `token` as for data.
    case disk = 7
    /// A copy of a running guest's memory for this host's vault. Agents that don't know it refuse it.
    case warm = 8
  }

  /// The protocol both agents must speak; refused when it differs.
  public static let version: UInt16 = 2
  public static let byteCount = 38

  public let role: Role
  /// Lane number, `0` for control and for a copy, `1...64` for data; either for a probe; from `1` on for a disk.
  public let lane: UInt16
  public let migration: MigrationID
  public let token: MigrationID

  public init(role: Role, lane: UInt16, migration: MigrationID, token: MigrationID) {
    (self.role, self.lane, self.migration, self.token) = (role, lane, migration, token)
  }

  /// Throws where the version isn't this one or the role isn't known. Bytes behind the hello are
  /// left unread, and which lanes a role may have is for others to judge.
  public init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    let version = try cursor.readBE(UInt16.self)
    guard version == Self.version else {
      throw DecodeError(
        .badVersion, in: "hello", at: 0, found: UInt64(version), limit: UInt64(Self.version))
    }
    let rawRole = try cursor.readBE(UInt8.self)
    guard let role = Role(rawValue: rawRole) else {
      throw DecodeError(.badValue, in: "hello role", at: 2, found: UInt64(rawRole))
    }
    _ = try cursor.readBE(UInt8.self)
    let lane = try cursor.readBE(UInt16.self)
    self.init(
      role: role, lane: lane, migration: try MigrationID(decoding: &cursor),
      token: try MigrationID(decoding: &cursor))
  }

  public func encode(into out: inout [UInt8]) {
    out.appendBE(Self.version)
    out.append(role.rawValue)
    out.append(0)
    out.appendBE(lane)
    migration.encode(into: &out)
    token.encode(into: &out)
  }
}

/// 128 bits that name a migration, or a secret of the same size.
public struct MigrationID: Sendable, Hashable, CustomStringConvertible {
  public let high, low: UInt64

  public init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }

  /// Both halves from `random`. A token is a secret: it wants a generator that nobody can predict.
  public init<R: RandomNumberGenerator>(using random: inout R) {
    self.init(high: random.next(), low: random.next())
  }

  /// Reads the 32 hexadecimal digits that `description` prints.
  public init?(_ text: String) {
    // A number's sign would be read, too.
    guard text.utf8.count == 32,
      text.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
      let high = UInt64(text.prefix(16), radix: 16),
      let low = UInt64(text.suffix(16), radix: 16)
    else { return nil }
    self.init(high: high, low: low)
  }

  init(decoding cursor: inout ByteCursor) throws(DecodeError) {
    self.init(high: try cursor.readBE(), low: try cursor.readBE())
  }

  func encode(into out: inout [UInt8]) {
    out.appendBE(high)
    out.appendBE(low)
  }

  public var description: String { Self.digits(high) + Self.digits(low) }

  private static func digits(_ value: UInt64) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: 16 - text.count) + text
  }
}
