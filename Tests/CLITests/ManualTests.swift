import Foundation
import Testing

@testable import CLI

/// The pages in `Docs/man` are what the command line says. `UPDATE_GOLDEN=1` (`make man`) rewrites them.
@Suite struct ManualTests {
  private static let folder = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Docs/man")

  @Test func committedPagesAreCurrent() throws {
    let pages = try ManualCommand.pages()
    if ProcessInfo.processInfo.environment["UPDATE_GOLDEN"] == "1" {
      try? FileManager.default.removeItem(at: Self.folder)
      try FileManager.default.createDirectory(at: Self.folder, withIntermediateDirectories: true)
      for page in pages {
        try page.text.write(
          to: Self.folder.appending(path: page.fileName), atomically: true, encoding: .utf8)
      }
    }
    for page in pages {
      let committed = try? String(
        contentsOf: Self.folder.appending(path: page.fileName), encoding: .utf8)
      #expect(committed == page.text, "\(page.fileName) is not current: run `make man`")
    }
    let files = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path)
    #expect(Set(files) == Set(pages.map(\.fileName)), "pages of commands that are gone")
  }

  @Test func everyCommandOfTheDesignHasAPage() throws {
    let names = Set(try ManualCommand.pages().map(\.fileName))
    for command in ["agent", "vms", "migrate", "status", "watch", "cancel", "history", "version"] {
      #expect(names.contains("godwit-\(command).1"))
    }
    #expect(names.contains("godwit.1"))
    #expect(!names.contains("godwit-manual.1"))
  }

  @Test func troffSeesNoRequestsInText() {
    #expect(ManualPage.escaped(".TH x") == "\\&.TH x")
    #expect(ManualPage.escaped("'a\\b-c'") == "\\(aqa\\eb\\-c\\(aq")
  }
}
