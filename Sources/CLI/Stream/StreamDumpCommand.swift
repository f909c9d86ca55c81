import ArgumentParser
import QEMUStream
import SystemPackage

/// Prints what is in a stream: it reads once, in constant memory apart from the description.
struct StreamDumpCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dump", abstract: "Print blocks, sections, page counts and devices of a stream.",
    discussion: """
      The stream is what QEMU writes when it migrates, for example with \
      'migrate "exec:cat > FILE"' in its monitor. Exit status: 0 the stream is complete, or was \
      understood as far as Godwit passes it on; 1 it is damaged, cut off, or none.
      """)

  @Argument(help: ArgumentHelp("The stream, or - for standard input.", valueName: "file"))
  var file: String
  @OptionGroup var output: OutputOptions

  func run() throws {
    var inspector = StreamInspector()
    let problem = Self.read(file, into: &inspector)
    let summary = inspector.summary(problem: problem)
    if output.json {
      try Output.json(summary)
    } else if summary.bytes > 0 {
      StreamSummaryText.lines(summary).forEach(Output.line)
    }
    guard let problem else { return }
    Output.error("\(file == "-" ? "standard input" : file): \(problem)")
    throw ExitCode.failure
  }

  /// Bytes read at once; the reader leaves at most `carryMax` of them.
  private static let chunkLength = 1 << 20

  /// Reads the stream to its end; returns what is wrong with it, or nil.
  static func read(_ file: String, into inspector: inout StreamInspector) -> String? {
    do {
      if file == "-" { return try read(from: .standardInput, into: &inspector) }
      let descriptor = try FileDescriptor.open(FilePath(file), .readOnly)
      return try descriptor.closeAfter { try read(from: descriptor, into: &inspector) }
    } catch let error as Errno {
      return error.description
    } catch {
      return "\(error)"
    }
  }

  private static func read(
    from descriptor: FileDescriptor, into inspector: inout StreamInspector
  ) throws -> String? {
    var reader = StreamReader()
    var buffer = [UInt8](repeating: 0, count: chunkLength + StreamReader.carryMax)
    var held = 0
    defer { inspector.finish(reader) }
    do throws(StreamError) {
      while true {
        let count = try receive(descriptor, &buffer, held)
        if count == 0 { break }
        held += count
        if reader.position == 0, let hint = Self.hint(buffer.prefix(held)) { return hint }
        let used = try consume(buffer, held, &reader, &inspector)
        let rest = Array(buffer[used..<held])
        buffer.replaceSubrange(0..<rest.count, with: rest)
        held -= used
      }
      if held > 0 { return "cut off at byte \(reader.position + UInt64(held)), inside a record" }
      if reader.position == 0 { return "empty: no stream" }
      try reader.finish(&inspector)
      return nil
    } catch {
      return "\(error)"
    }
  }

  private static func consume(
    _ buffer: [UInt8], _ count: Int, _ reader: inout StreamReader,
    _ inspector: inout StreamInspector
  ) throws(StreamError) -> Int {
    // SAFETY: a view of initialized bytes, which `buffer` outlives.
    try reader.consume(unsafe buffer.span.bytes.extracting(0..<count), &inspector)
  }

  /// A failed read counts as the end: what was read so far is still shown, and then cut off.
  private static func receive(
    _ descriptor: FileDescriptor, _ buffer: inout [UInt8], _ held: Int
  ) throws(StreamError) -> Int {
    do {
      // SAFETY: the slice of the buffer is used within the closure only.
      return try unsafe buffer.withUnsafeMutableBytes { raw in
        try unsafe descriptor.read(into: .init(rebasing: raw[held...]))
      }
    } catch {
      Output.error("read: \(error)")
      return 0
    }
  }

  /// What a file is that is not a stream but often taken for one.
  private static func hint(_ start: ArraySlice<UInt8>) -> String? {
    guard start.count >= 4 else { return nil }
    switch (start[0], start[1], start[2], start[3]) {
    case (0x1F, 0x8B, _, _):
      return "compressed with gzip: use 'gzip -dc FILE | godwit stream dump -'"
    case (0x28, 0xB5, 0x2F, 0xFD):
      return "compressed with zstd: use 'zstd -dc FILE | godwit stream dump -'"
    case (0x11, 0x22, 0x33, 0x44):
      return "a second connection of a multifd migration: it has no structure of its own"
    default: return nil
    }
  }
}
