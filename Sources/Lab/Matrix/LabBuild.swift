import Crypto
import Glibc
import HostIO

/// Which build of Godwit an experiment ran with: a version alone doesn't tell two of them apart.
struct LabBuild: Sendable, Equatable {
  /// Of the source tree that the program lies in, `-dirty` behind it where that was changed since; nil outside a checkout.
  var commit: String?
  /// Of the program that agents and block servers are started from: the first 16 hexadecimal digits of its SHA-256; nil
  /// where it can't be read.
  var programSHA256: String?

  /// - Parameter program: a path.
  static func read(program: String) async -> LabBuild {
    let hash = try? await WorkerThread.run("lab-build") { try Self.sha256(of: program) }
    var build = LabBuild(programSHA256: hash.map { String($0.prefix(16)) })
    if let tree = tree(of: program) { build.commit = await commit(of: tree) }
    return build
  }

  /// The folder above a program that is a checkout of Godwit's sources, not of whatever else.
  static func tree(of program: String) -> String? {
    var above = Substring(program)
    while let slash = above.lastIndex(of: "/") {
      above = above[..<slash]
      if SmallFile.exists("\(above)/.git"), SmallFile.exists("\(above)/Sources/Lab") {
        return String(above)
      }
    }
    return nil
  }

  /// Files that git doesn't know don't make a tree dirty: results may lie in it.
  static func commit(of tree: String) async -> String? {
    let described = try? await Command.execute(
      "git", ["-C", tree, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
    guard let described, described.exit.isSuccess else { return nil }
    let line = described.output.prefix { !$0.isNewline }
    // Warnings come by the same way.
    guard line.prefix(while: \.isHexDigit).count >= 12 else { return nil }
    return String(line)
  }

  /// In hexadecimal digits.
  static func sha256(of path: String) throws -> String {
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw LabError("cannot read \(path): errno \(errno)") }
    defer { close(file) }
    var hash = SHA256()
    var chunk = [UInt8](repeating: 0, count: 1 << 20)
    while true {
      // SAFETY: the buffer lives for the call, and its own count bounds it.
      let count = unsafe chunk.withUnsafeMutableBytes {
        unsafe Glibc.read(file, $0.baseAddress, $0.count)
      }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw LabError("cannot read \(path): errno \(errno)") }
      guard count > 0 else { break }
      hash.update(data: chunk[..<count])
    }
    return hash.finalize().reduce(into: "") { text, byte in
      text += String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
    }
  }
}
