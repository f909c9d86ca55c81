/// What a QEMU command line says about its VM, as far as Godwit must know before it can ask.
public struct QEMUCommandLine: Sendable, Equatable {
  /// Names of QEMU programs, with or without a path.
  public static func isQEMU(program: String) -> Bool {
    let name = program.split(separator: "/").last.map(String.init) ?? ""
    return name.hasPrefix("qemu-system-") || name == "qemu-kvm" || name == "kvm"
  }

  /// From `-name`; nil without one.
  public let name: String?
  /// From `-uuid`.
  public let uuid: String?
  /// Unix sockets of QMP monitors that this QEMU serves, in order of appearance. `monitorPaths` may
  /// be relative to QEMU's working directory.
  public let monitorPaths: [String]
  /// Started to receive a migration.
  public let isIncoming: Bool

  /// Reads the arguments that follow the program's name.
  public init(arguments: [String]) {
    var name: String?
    var uuid: String?
    var isIncoming = false
    var direct: [String] = []
    var controlled: [String] = []
    var sockets: [String: String] = [:]
    for (index, word) in arguments.enumerated() {
      let option = Self.option(word)
      guard let option, index + 1 < arguments.count else { continue }
      let value = arguments[index + 1]
      switch option {
      case "name":
        let fields = OptionFields(value, implied: "guest")
        name = fields["guest"] ?? name
      case "uuid": uuid = value
      case "incoming": isIncoming = true
      // Not -qmp-pretty: it breaks replies over lines, and Godwit reads one reply per line.
      case "qmp": if let path = Self.socketPath(value) { direct.append(path) }
      case "chardev":
        let fields = OptionFields(value, implied: "backend")
        if let id = fields["id"], let path = Self.servedPath(fields) { sockets[id] = path }
      case "mon":
        let fields = OptionFields(value, implied: "chardev")
        if fields["mode"] == "control", !fields.isOn("pretty"), let chardev = fields["chardev"] {
          controlled.append(chardev)
        }
      default: break
      }
    }
    (self.name, self.uuid, self.isIncoming) = (name, uuid, isIncoming)
    monitorPaths = direct + controlled.compactMap { sockets[$0] }
  }

  /// The option's name; QEMU takes one dash or two.
  static func option(_ word: String) -> String? {
    guard word.hasPrefix("-"), word.count > 1 else { return nil }
    return String(word.drop { $0 == "-" })
  }

  /// `unix:PATH,server=on,wait=off`.
  private static func socketPath(_ value: String) -> String? {
    guard value.hasPrefix("unix:") else { return nil }
    let fields = OptionFields(String(value.dropFirst("unix:".count)), implied: "path")
    return fields["path"].flatMap { $0.isEmpty ? nil : $0 }
  }

  /// The path of a listening unix socket. Libvirt hands over `fd=N` and names no path; its sockets
  /// have a place of their own (`VMDiscovery`).
  private static func servedPath(_ fields: OptionFields) -> String? {
    guard fields["backend"] == "socket", let path = fields["path"], !path.isEmpty,
      fields.isOn("server")
    else { return nil }
    return path
  }
}

/// QEMU's option syntax: `first,key=value,flag,other=a,,b` (two commas: one that belongs to a value).
public struct OptionFields: Sendable, Equatable {
  /// In the text's order; a key may be there several times.
  public private(set) var fields: [(key: String, value: String)] = []

  /// `implied` is the key of a first field that has none.
  public init(_ text: String, implied: String? = nil) {
    for (index, part) in Self.split(text).enumerated() {
      if let equals = part.firstIndex(of: "=") {
        let value = part[part.index(after: equals)...]
        fields.append((key: String(part[..<equals]), value: String(value)))
      } else if index == 0, let implied {
        fields.append((key: implied, value: part))
      } else {
        fields.append((key: part, value: "on"))
      }
    }
  }

  /// Of equal keys the last one counts, as for QEMU; nil: there is none.
  public subscript(key: String) -> String? { fields.last { $0.key == key }?.value }
  /// Whether a flag is set, in any of the spellings that QEMU takes for "on"; false where it isn't
  /// there.
  public func isOn(_ key: String) -> Bool { ["on", "yes", "true", "y"].contains(self[key]) }

  private static func split(_ text: String) -> [String] {
    var parts: [String] = []
    var part = ""
    var rest = text[...]
    while let character = rest.popFirst() {
      if character != "," {
        part.append(character)
      } else if rest.first == "," {
        rest.removeFirst()
        part.append(",")
      } else {
        parts.append(part)
        part = ""
      }
    }
    parts.append(part)
    return parts
  }

  public static func == (a: Self, b: Self) -> Bool {
    a.fields.elementsEqual(b.fields) { $0.key == $1.key && $0.value == $1.value }
  }
}
