import Agent
import Base
import DiskStrategy
import Glibc
import HostIO

/// Manifests in files.
enum BlockManifest {
  /// The largest there is: of a disk of 2 TiB.
  private static let byteCountMax = 1 << 30 + 4096

  static func read(_ path: String) throws -> DiskManifest {
    do {
      return try DiskManifest(
        decoding: SmallFile.readBytes(path, bytesMax: byteCountMax))
    } catch let error as DecodeError {
      throw ControlError(.refused, "\(TerminalText.plain(path)) is no manifest: \(error)")
    } catch {
      throw ControlError(.refused, "the manifest can't be read: \(TerminalText.plain("\(error)"))")
    }
  }

  /// In place of one that may be there, which stays until the new one is whole.
  static func write(_ manifest: DiskManifest, to path: String) throws {
    try SmallFile.write(manifest.encoded, to: path + ".new", mode: 0o600)
    guard unsafe rename(path + ".new", path) == 0 else { throw SystemError("name \(path)") }
  }
}
