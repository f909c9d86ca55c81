import QMP

/// Finds absolute paths inside QEMU arguments.
///
/// A path starts at a slash that begins the argument or follows one of `= : , "`, and ends at a comma
/// that is not doubled, or at the second quote. JSON arguments (libvirt) are searched string by string. Rather too many are
/// found than too few: `tcp:host/…` is none, `exec:/bin/x` is.
enum ArgumentPaths {
  static func all(in word: String) -> [String] {
    var paths: [String] = []
    _ = rewrite(word) { path in
      paths.append(path)
      return path
    }
    return paths
  }

  /// Replaces each path by what `change` makes of it.
  static func rewrite(_ word: String, _ change: (String) -> String) -> String {
    if word.hasPrefix("{"), let value = try? JSONParser.parse(Array(word.utf8)) {
      let changed = rewrite(value, change)
      return changed == value ? word : changed.line
    }
    if word.hasPrefix("json:"), let value = try? JSONParser.parse(Array(word.utf8.dropFirst(5))) {
      let changed = rewrite(value, change)
      return changed == value ? word : "json:" + changed.line
    }
    var result = ""
    var rest = word[...]
    var startsHere = true
    var isQuoted = false
    while let character = rest.first {
      if character == "/", startsHere {
        let (path, after) = takePath(rest, isQuoted: isQuoted)
        result += LaunchArguments.escape(change(path))
        rest = after
        startsHere = false
        continue
      }
      isQuoted = character == "\""
      startsHere = isQuoted || "=:,".contains(character)
      result.append(character)
      rest.removeFirst()
    }
    return result
  }

  private static func takePath(
    _ text: Substring, isQuoted: Bool
  ) -> (path: String, rest: Substring) {
    var path = ""
    var rest = text
    while let character = rest.first {
      if isQuoted, character == "\"" { break }
      if character == "," {
        guard rest.dropFirst().first == "," else { break }
        rest.removeFirst()
      }
      path.append(character)
      rest.removeFirst()
    }
    return (path, rest)
  }

  private static func rewrite(_ value: JSONValue, _ change: (String) -> String) -> JSONValue {
    switch value {
    case .string(let text): .string(rewrite(text, change))
    case .array(let elements): .array(elements.map { rewrite($0, change) })
    case .object(let members): .object(members.mapValues { rewrite($0, change) })
    case .null, .bool, .number: value
    }
  }
}
