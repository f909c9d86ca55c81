import ArgumentParser
import Base
import Foundation
import QEMUStream
import TestSupport
import Testing

@testable import CLI

@Suite struct StreamDumpTests {
  /// The named golden stream, unpacked into a file of its own.
  private func unpacked(_ name: String) throws -> URL {
    let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID()).stream")
    try Data(GoldenStream.named(name).bytes).write(to: file)
    return file
  }

  private func dump(_ file: URL) -> StreamSummary {
    var inspector = StreamInspector()
    let problem = StreamDumpCommand.read(file.path, into: &inspector)
    return inspector.summary(problem: problem)
  }

  /// The description's sizes must add up to the device state's, byte for byte.
  @Test(arguments: ["7.2-precopy", "10.0-precopy", "7.2-q35-devices", "10.0-q35-devices"])
  func devicesExplainEveryByte(name: String) throws {
    let file = try unpacked(name)
    defer { try? FileManager.default.removeItem(at: file) }
    let summary = dump(file)
    #expect(summary.error == nil)
    #expect(summary.isComplete)
    let devices = try #require(summary.devices)
    #expect(devices.first?.name == "timer")
    #expect(devices.reduce(0) { $0 + $1.bytes } == summary.deviceStateBytes)
    let sections = summary.ramSections
    #expect(sections.start.count == 1 && sections.end.count == 1 && sections.part.count >= 1)
    #expect(summary.blocks.first?.rawPages ?? 0 >= 64)
    #expect(summary.blocks.allSatisfy { $0.zeroPages + $0.rawPages >= UInt64($0.length >> 12) })
  }

  @Test func aCutOffStreamIsShownAndRefused() throws {
    let file = try unpacked("7.2-numa")
    defer { try? FileManager.default.removeItem(at: file) }
    let whole = try Data(contentsOf: file)
    try whole.prefix(100_000).write(to: file)
    let summary = dump(file)
    #expect(summary.error == "cut off at byte 100000, inside a record")
    #expect(summary.blocks.first?.name == "mem0")
    #expect(!summary.isComplete)
    let text = StreamSummaryText.lines(summary).joined(separator: "\n")
    #expect(text.contains("incomplete"))
  }

  @Test func handOversAreSaid() throws {
    let file = try unpacked("10.0-virtio-mem")
    defer { try? FileManager.default.removeItem(at: file) }
    let summary = dump(file)
    #expect(summary.error == nil)
    #expect(!summary.isComplete)
    #expect(summary.handedOver?.reason.contains("virtio-mem-device-early") == true)
    #expect(summary.opaqueBytes == summary.bytes - (summary.handedOver?.offset ?? 0))
  }

  @Test func whatIsNoStream() throws {
    let packed = GoldenStream.folder.appending(path: "7.2-precopy.stream.gz")
    #expect(dump(packed).error?.contains("gzip") == true)
    #expect(dump(URL(filePath: "/nonexistent/stream")).error?.contains("No such file") == true)
    let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID()).stream")
    defer { try? FileManager.default.removeItem(at: file) }
    try Data().write(to: file)
    #expect(dump(file).error == "empty: no stream")
    try Data(repeating: 0x41, count: 5000).write(to: file)
    #expect(dump(file).error?.contains("wrong magic") == true)
  }

  @Test func commandLine() throws {
    let command = try GodwitCommand.parseAsRoot(["stream", "dump", "--json", "-"])
    let dump = try #require(command as? StreamDumpCommand)
    #expect(dump.file == "-" && dump.output.json)
  }
}
