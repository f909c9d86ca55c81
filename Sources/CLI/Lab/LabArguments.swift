import Agent
import ArgumentParser
import Base
import Lab

/// Arguments that only the lab takes.
enum LabArguments {
  struct Methods: Sendable { let methods: [LabMethod] }

  @Sendable static func methods(_ text: String) throws -> Methods {
    Methods(
      methods: try names(text).map { name in
        guard let method = LabMethod(name: name) else {
          throw ValidationError(
            "there is no method \(TerminalText.plain(name)); there are \(LabMethod.names)")
        }
        return method
      })
  }

  @Sendable static func strategies(_ text: String) throws -> Methods {
    Methods(
      methods: try names(text).map { name in
        guard let method = LabMethod(name: LabMethod.godwitPrefix + name) else {
          throw ValidationError("\(TerminalText.plain(name)) is no strategy")
        }
        return method
      })
  }

  @Sendable static func names(_ text: String) throws -> [String] {
    let names = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    guard names.allSatisfy({ !$0.isEmpty }) else {
      throw ValidationError("\(TerminalText.plain(text)) is no list of names: write a,b")
    }
    return names
  }

  @Sendable static func dirtyRate(_ text: String) throws -> RateOrMax {
    guard let rate = RateOrMax(text) else {
      throw ValidationError(
        "\(TerminalText.plain(text)) is no rate: write 20MiB/s or 200Mbit, or max")
    }
    return rate
  }
}
