/// One line from the monitor (QEMU `docs/interop/qmp-spec`, section "Protocol Specification").
public enum QMPMessage: Sendable, Equatable {
  case greeting(QMPGreeting)
  /// `id` is nil when QEMU could not even read the request's id.
  case reply(id: UInt64?, JSONValue)
  case failure(id: UInt64?, errorClass: String, detail: String)
  case event(QMPEvent)

  /// Longest line accepted, in bytes. The largest replies of QEMU 10 have a few hundred KiB.
  public static let lineLengthMax = 16 << 20

  /// Why a line isn't QMP; the connection can't go on behind it.
  public struct Malformed: Error, Hashable, Sendable {
    public let detail: String
  }

  /// Reads one line, with or without white space at its end. Throws on more than `lineLengthMax`
  /// bytes, on what is no JSON object, and on an object that is none of the four kinds.
  ///
  /// An id that isn't a number in `0...UInt64.max` is nil: Godwit sends no others.
  public static func parse(_ line: [UInt8]) throws(Malformed) -> QMPMessage {
    guard line.count <= lineLengthMax else {
      throw Malformed(detail: "a line of \(line.count) bytes, limit \(lineLengthMax)")
    }
    let value: JSONValue
    do { value = try JSONParser.parse(line) } catch { throw Malformed(detail: "\(error)") }
    guard case .object(let members) = value else { throw Malformed(detail: "not an object") }
    if let name = members["event"]?.string {
      let time = members["timestamp"]
      return .event(
        QMPEvent(
          name: name, data: members["data"] ?? .object([:]),
          seconds: time?["seconds"]?.int64 ?? 0, microseconds: time?["microseconds"]?.int64 ?? 0))
    }
    let id = members["id"]?.uint64
    if let result = members["return"] { return .reply(id: id, result) }
    if let error = members["error"] {
      return .failure(
        id: id, errorClass: error["class"]?.string ?? "GenericError",
        detail: error["desc"]?.string ?? "no description")
    }
    if let greeting = members["QMP"] {
      guard let version = QEMUVersion(greeting["version"]) else {
        throw Malformed(detail: "a greeting without a version")
      }
      let capabilities = greeting["capabilities"]?.array ?? []
      return .greeting(
        QMPGreeting(version: version, offersOutOfBand: capabilities.contains(.string("oob"))))
    }
    throw Malformed(detail: "neither greeting, reply, error nor event")
  }

  /// The request line for a command, without the line's end.
  static func request(
    id: UInt64, command: String, arguments: JSONValue?, outOfBand: Bool
  ) -> String {
    var members: [String: JSONValue] = [
      outOfBand ? "exec-oob" : "execute": .string(command), "id": JSONValue(id),
    ]
    members["arguments"] = arguments
    return JSONValue.object(members).line
  }
}

/// QEMU's first line on a monitor.
public struct QMPGreeting: Sendable, Hashable {
  public let version: QEMUVersion
  public let offersOutOfBand: Bool
}

/// An asynchronous event, such as `STOP` or `MIGRATION`.
public struct QMPEvent: Sendable, Hashable {
  public let name: String
  public let data: JSONValue
  /// QEMU's wall clock when the event happened.
  public let seconds, microseconds: Int64

  public init(name: String, data: JSONValue, seconds: Int64 = 0, microseconds: Int64 = 0) {
    (self.name, self.data) = (name, data)
    (self.seconds, self.microseconds) = (seconds, microseconds)
  }

  /// The new status of a `MIGRATION` event (sent when the capability `events` is set).
  public var migrationStatus: MigrationStatus? {
    name == "MIGRATION" ? data["status"]?.string.map(MigrationStatus.init) : nil
  }
}
