import HostIO

/// The order in which kernel modules have to be inserted. Packages that were only unpacked have no
/// `modules.dep`, so it is taken from the modules themselves.
enum ModuleOrder {
  /// Names (keys of `paths`), each after those that it depends on.
  static func sorted(_ paths: [String: String]) throws -> [String] {
    var dependencies: [String: [String]] = [:]
    for (name, path) in paths {
      dependencies[name] = Self.dependencies(of: try SmallFile.readBytes(path, bytesMax: 16 << 20))
    }
    return sorted(dependencies)
  }

  static func sorted(_ dependencies: [String: [String]]) -> [String] {
    // The kernel takes `-` and `_` in names for the same.
    func plain(_ name: String) -> String { name.replacing("-", with: "_") }
    var order: [String] = []
    var seen: Set<String> = []
    func visit(_ name: String) {
      guard seen.insert(name).inserted else { return }
      for wanted in dependencies[name] ?? [] {
        for other in dependencies.keys where plain(other) == plain(wanted) { visit(other) }
      }
      order.append(name)
    }
    for name in dependencies.keys.sorted() { visit(name) }
    return order
  }

  /// The names after `depends=` in a module's `.modinfo` section, which holds NUL-ended texts.
  static func dependencies(of module: [UInt8]) -> [String] {
    let key = Array("depends=".utf8)
    var start = 0
    while let found = module[start...].firstRange(of: [0] + key) {
      let rest = module[found.upperBound...].prefix(4096)
      guard let end = rest.firstIndex(of: 0) else { return [] }
      let text = String(decoding: rest[..<end], as: UTF8.self)
      if text.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) {
        return text.split(separator: ",").map(String.init)
      }
      start = found.upperBound
    }
    return []
  }
}
