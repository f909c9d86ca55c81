import FoundationEssentials
import HostIO

/// Where the files lie that come with the program.
enum ShippedFolder {
  /// Of `share/scenarios`: beside an installed program (`../share/godwit/scenarios`), or in the source tree.
  static func path(_ folder: String) throws -> String {
    let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let name = folder.split(separator: "/").last.map(String.init) ?? folder
    var above = Substring(program)
    while let slash = above.lastIndex(of: "/") {
      above = above[..<slash]
      for candidate in ["\(above)/../share/godwit/\(name)", "\(above)/\(folder)"]
      where SmallFile.isReadable(candidate) { return candidate }
    }
    let here = "\(FileManager.default.currentDirectoryPath)/\(folder)"
    if SmallFile.isReadable(here) { return here }
    throw LabError("missing: the folder \(folder); run from Godwit's source tree, or give a path")
  }
}
