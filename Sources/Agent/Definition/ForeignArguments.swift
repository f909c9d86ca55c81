import QMP

/// What a command line from another host must not hold.
enum ForeignArguments {
  /// Options that read files of options, load code, or change who QEMU is.
  private static let options: Set<String> = [
    "readconfig", "plugin", "chroot", "runas", "run-with", "set", "add-fd", "gdb", "s", "tpmdev",
    "option-rom", "dtb", "trace", "dump-vmstate", "D",
  ]
  /// Fields that run programs or name descriptors.
  private static let fields: Set<String> = [
    "fd", "fds", "vhostfd", "vhostfds", "sockfd", "script", "downscript", "helper", "smb",
    "guestfwd", "exec", "command", "br-helper",
  ]
  /// Fields whose value is a file; a relative one would be looked for in the agent's directory.
  private static let fileFields: Set<String> = [
    "file", "filename", "path", "mem-path", "kernel", "initrd", "dtb", "loader", "romfile",
    "logfile",
    "rom", "firmware", "shadowed-file",
  ]
  private static let fileOptions: Set<String> = [
    "kernel", "initrd", "bios", "hda", "hdb", "hdc", "hdd", "cdrom", "fda", "fdb", "pflash",
    "mtdblock", "sd", "mem-path", "L",
  ]

  /// `previous` is the word before, the option when this one is its value.
  static func check(_ word: String, after previous: String?) throws(LaunchRefusal) {
    guard let option = previous.flatMap(QEMUCommandLine.option) else {
      guard let option = QEMUCommandLine.option(word), options.contains(option) else { return }
      throw refusal("the option -\(option) of the source's command line is not taken over")
    }
    if QEMUCommandLine.option(word).map(options.contains) == true {
      throw refusal("the option \(word) of the source's command line is not taken over")
    }
    if word.hasPrefix("{"), let value = try? JSONParser.parse(Array(word.utf8)) {
      return try check(value)
    }
    if word.hasPrefix("exec:") || word.contains("=exec:") || word.contains("cmd:") {
      throw refusal("\"\(word.prefix(200))\" of the source's command line runs a program")
    }
    for field in OptionFields(word, implied: "").fields {
      try check(field: field.key, value: field.value, isBlockNode: option == "blockdev")
    }
    if fileOptions.contains(option) { try check(field: "file", value: word, isBlockNode: false) }
  }

  private static func check(_ value: JSONValue) throws(LaunchRefusal) {
    switch value {
    case .object(let members):
      for name in members.keys.sorted() {
        guard let member = members[name] else { continue }
        if let text = member.string { try check(field: name, value: text, isBlockNode: true) }
        try check(member)
      }
    case .array(let elements): for element in elements { try check(element) }
    case .null, .bool, .number, .string: break
    }
  }

  private static func check(
    field: String, value: String, isBlockNode: Bool
  ) throws(LaunchRefusal) {
    // QEMU's dotted keys: `file.filename`.
    let key = field.split(separator: ".").last.map(String.init) ?? field
    let isOff = ["no", "off", "none", ""].contains(value)
    if fields.contains(key), !isOff {
      throw refusal(
        "\"\(field)=\(value.prefix(100))\" of the source's command line runs a program or names a "
          + "descriptor of the source's")
    }
    guard fileFields.contains(key), !isOff, !value.hasPrefix("/"), !value.hasPrefix("{"),
      !value.hasPrefix("json:")
    else { return }
    // In a block graph `file` names another node.
    if key == "file", isBlockNode { return }
    throw refusal(
      "\"\(field)=\(value.prefix(100))\" of the source's command line is no absolute path")
  }

  private static func refusal(_ cause: String) -> LaunchRefusal {
    LaunchRefusal(cause, remedy: "write a definition for this VM at the destination")
  }
}
