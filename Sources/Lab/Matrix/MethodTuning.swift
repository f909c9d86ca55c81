public import Agent
import QMP

/// What of a method is set otherwise than the scenario and the lab have it: `[tuning.NAME]` in a file,
/// used by methods that are named `qemu-autoconverge+NAME`.
public struct MethodTuning: Sendable, Equatable {
  public var downtimeLimitMs: UInt64?
  /// Godwit's alone.
  public var pageSource: MigrationRequest.PageSourceChoice?
  /// QEMU's alone, on both sides, over what the rival has by itself.
  var capabilities: [String: Bool] = [:]
  var parameters: [String: JSONValue] = [:]

  public init() {}

  /// The same for the same settings: dictionaries have no order.
  var fingerprint: String {
    let pairs =
      capabilities.map { "\($0.key)=\($0.value)" } + parameters.map { "\($0.key)=\($0.value.line)" }
    return "\(downtimeLimitMs ?? 0) \(pageSource?.rawValue ?? "") \(pairs.sorted())"
  }

  /// Why `method` cannot be tuned like this; nil when it can.
  func problem(with method: LabMethod) -> String? {
    switch method {
    case .rival: pageSource == nil ? nil : "pageSource means nothing to QEMU alone"
    case .strategy:
      capabilities.isEmpty && parameters.isEmpty
        ? nil : "Godwit's agents set QEMU's capabilities and parameters"
    }
  }
}

extension MethodTuning: Decodable {
  enum CodingKeys: String, CodingKey, CaseIterable {
    case downtime, pageSource, capabilities, parameters
  }

  /// A parameter is a number, a text or a truth.
  private enum Value: Decodable {
    case number(Int)
    case truth(Bool)
    case text(String)

    init(from decoder: any Decoder) throws {
      let value = try decoder.singleValueContainer()
      if let truth = try? value.decode(Bool.self) {
        self = .truth(truth)
      } else if let number = try? value.decode(Int.self) {
        self = .number(number)
      } else {
        self = .text(try value.decode(String.self))
      }
    }

    var json: JSONValue {
      switch self {
      case .number(let number): JSONValue(number)
      case .truth(let truth): .bool(truth)
      case .text(let text): .string(text)
      }
    }
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    downtimeLimitMs = try values.duration(.downtime)
    pageSource = try values.parsed(.pageSource, "auto, inline or shared") {
      MigrationRequest.PageSourceChoice(rawValue: $0)
    }
    capabilities =
      try values.decodeIfPresent([String: Bool].self, forKey: .capabilities) ?? [:]
    parameters =
      try values.decodeIfPresent([String: Value].self, forKey: .parameters)?.mapValues(\.json)
      ?? [:]
  }
}
