import Foundation
import HostIO
import Testing

@testable import Lab

@Suite struct LabBuildTests {
  private let folder = NSTemporaryDirectory() + "godwit-build-\(UUID().uuidString)"

  private func make(_ path: String, _ text: String) throws -> String {
    let file = URL(filePath: folder).appending(path: path)
    try FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(text.utf8).write(to: file)
    return file.path(percentEncoded: false)
  }

  /// The message of two blocks of FIPS 180-2, B.2.
  @Test func aKnownHash() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let file = try make("x", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")
    #expect(
      try LabBuild.sha256(of: file)
        == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    #expect(throws: LabError.self) { try LabBuild.sha256(of: folder + "/none") }
  }

  @Test func onlyACheckoutOfGodwitIsOne() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let program = try make("tree/.build/debug/godwit", "x")
    _ = try make("tree/.git/HEAD", "x")
    // Somebody's home under version control.
    #expect(LabBuild.tree(of: program) == nil)
    _ = try make("tree/Sources/Lab/x.swift", "x")
    #expect(LabBuild.tree(of: program) == folder + "/tree")
    #expect(LabBuild.tree(of: "godwit") == nil)
  }

  @Test func aChangedTreeIsDirty() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let program = try make("godwit", "x")
    let source = try make("Sources/Lab/x.swift", "1")
    _ = try make(".gitignore", "godwit")
    func git(_ arguments: String...) async throws -> String {
      try await Command.run("git", ["-C", folder] + arguments)
    }
    _ = try await git("init", "-q")
    #expect(await LabBuild.read(program: program).commit == nil)
    _ = try await git("add", ".")
    _ = try await git(
      "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--no-gpg-sign", "-m", "x")
    let commit = try await git("rev-parse", "--short=12", "HEAD").filter { !$0.isNewline }
    let build = await LabBuild.read(program: program)
    #expect(build.commit == commit)
    #expect(build.programSHA256 == "2d711642b726b044")
    // A results file in the tree is no change of it.
    _ = try make("results.jsonl", "x")
    #expect(await LabBuild.read(program: program).commit == commit)
    try Data("2".utf8).write(to: URL(filePath: source))
    #expect(await LabBuild.read(program: program).commit == commit + "-dirty")
  }
}
