public import Agent
public import ArgumentParser
import Base

/// Where the agent of this host listens.
struct ControlOptions: ParsableArguments {
  @Option(
    name: .customLong("control-socket"),
    help: ArgumentHelp(
      "Control socket of this host's agent (default: /run/godwit/agent.sock; without root: $XDG_RUNTIME_DIR/godwit/agent.sock).",
      valueName: "path"))
  var path: String?

  var client: ControlClient { ControlClient(path: path ?? ControlSocket.defaultPath) }
}

struct OutputOptions: ParsableArguments {
  @Flag(help: "Print JSON, one object a line; what was not measured is null.")
  var json = false
}

/// Values with units, read as everywhere in Godwit.
enum UnitArguments {
  @Sendable static func rate(_ text: String) throws -> ByteRate {
    guard let rate = ByteRate(parsing: text) else {
      throw ValidationError(
        "\(TerminalText.plain(text)) is no rate: write 1Gbit or 200Mbit (bits), or 100MiB/s (bytes)"
      )
    }
    return rate
  }

  @Sendable static func size(_ text: String) throws -> ByteCount {
    guard let size = ByteCount(parsing: text) else {
      throw ValidationError("\(TerminalText.plain(text)) is no size: write 512MiB or 2GiB")
    }
    return size
  }

  @Sendable static func milliseconds(_ text: String) throws -> UInt64 {
    guard let ms = Milliseconds.parse(text) else {
      throw ValidationError("\(TerminalText.plain(text)) is no duration: write 300ms, 1.5s or 2m")
    }
    return ms
  }
}

extension MigrationRequest.PageSourceChoice: ExpressibleByArgument {}
extension MigrationRequest.CompactionChoice: ExpressibleByArgument {}
extension DiskWishes.Method: ExpressibleByArgument {}
