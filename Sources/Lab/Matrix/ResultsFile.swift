import Agent
import Glibc
import HostIO

/// Results as JSON lines: each is written when its migration is over, so that an experiment that was
/// interrupted goes on where it was.
public struct ResultsFile: Sendable {
  /// A file larger than this is refused.
  static let bytesMax = 1 << 30

  public let path: String
  public init(path: String) { self.path = path }

  /// Without folders and ending: the experiment's, where a suite wrote it.
  public var name: String {
    let last = path.split(separator: "/").last.map(String.init) ?? path
    return last.hasSuffix(Self.ending) ? String(last.dropLast(Self.ending.count)) : last
  }
  static let ending = ".jsonl"

  /// Where its report goes when nobody says where: beside it, `.html` in the place of its ending.
  public var pagePath: String {
    let slash = path.lastIndex(of: "/")
    let name = slash.map { path[path.index(after: $0)...] } ?? path[...]
    // A name that begins with its only dot has no ending.
    let dot = name.lastIndex(of: ".").flatMap { $0 == name.startIndex ? nil : $0 }
    let page = path[..<(dot ?? path.endIndex)] + ".html"
    return page == path ? path + ".html" : String(page)
  }

  /// What is there, the last result of each cell; nothing when the file does not exist. A last line without an end was being written
  /// when the power went: it is left out, and `append` overwrites it.
  public func read() throws -> [MatrixResult] {
    guard SmallFile.exists(path) else { return [] }
    return try Self.parse(try SmallFile.readBytes(path, bytesMax: Self.bytesMax), path: path)
  }

  /// As `read`; nil when the file does not exist.
  public func existing() throws -> [MatrixResult]? {
    SmallFile.exists(path) ? try read() : nil
  }

  static func parse(_ bytes: [UInt8], path: String) throws -> [MatrixResult] {
    guard let end = bytes.lastIndex(of: 10) else { return [] }
    var results: [MatrixResult] = []
    for (index, line) in bytes[..<end].split(separator: 10).enumerated() {
      do {
        results.append(try JSONLine.decode(MatrixResult.self, from: line))
      } catch {
        throw LabError("\(path), line \(index + 1): not a result of godwit lab run (\(error))")
      }
    }
    // A cell that was done again: the later one counts.
    var seen: Set<String> = []
    return results.reversed().filter { seen.insert($0.lab.cell).inserted }.reversed()
  }

  /// Adds a line, on the disk when this returns.
  public func append(_ result: MatrixResult) throws {
    let line = Array((try JSONLine.encode(result) + "\n").utf8)
    let file = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw LabError("cannot write \(path): errno \(errno)") }
    defer { close(file) }
    var offset = try wholeLinesEnd(file)
    var rest = line[...]
    while !rest.isEmpty {
      // SAFETY: the buffer lives for the call, and its own count bounds it.
      let count = unsafe rest.withUnsafeBytes {
        unsafe pwrite(file, $0.baseAddress, $0.count, offset)
      }
      guard count > 0 || errno == EINTR else {
        throw LabError("cannot write \(path): errno \(errno)")
      }
      rest = rest.dropFirst(max(count, 0))
      offset += max(count, 0)
    }
    guard ftruncate(file, offset) == 0, fsync(file) == 0 else {
      throw LabError("cannot write \(path): errno \(errno)")
    }
  }

  /// Where the last whole line ends.
  private func wholeLinesEnd(_ file: Int32) throws -> Int {
    let size = Int(lseek(file, 0, SEEK_END))
    guard size > 0 else { return 0 }
    let bytes = try SmallFile.readBytes(path, bytesMax: Self.bytesMax)
    return bytes.lastIndex(of: 10).map { $0 + 1 } ?? 0
  }
}

/// Results of several experiments, a file of each: `NAME.jsonl`.
public struct ResultsFolder: Sendable {
  public let path: String
  public init(path: String) { self.path = path }

  /// Whether there is a folder at the path.
  public var exists: Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// The file needn't be there.
  public func file(of experiment: String) -> ResultsFile {
    ResultsFile(path: "\(path)/\(experiment)\(ResultsFile.ending)")
  }

  /// By name.
  public var files: [ResultsFile] {
    ProcFile.names(in: path).filter { $0.hasSuffix(ResultsFile.ending) }.sorted().map {
      ResultsFile(path: "\(path)/\($0)")
    }
  }
}
