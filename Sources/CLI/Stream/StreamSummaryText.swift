import Agent
import Base

/// The summary of a stream as lines for people.
enum StreamSummaryText {
  static func lines(_ summary: StreamSummary) -> [String] {
    var table = Table([])
    table.add(["stream", "\(ByteCount(summary.bytes)) (\(summary.bytes) bytes), \(state(summary))"])
    table.add(["machine", summary.machineType ?? "not said"])
    if !summary.capabilities.isEmpty {
      table.add(["capabilities", summary.capabilities.joined(separator: ", ")])
    }
    if summary.commandCount > 0 { table.add(["commands", commands(summary)]) }
    if let bytes = summary.packagedBytes { table.add(["packaged", "\(bytes) bytes"]) }
    if summary.multifdFlushes > 0 {
      table.add([
        "multifd", "\(summary.multifdFlushes) flushes: pages go through other connections",
      ])
    }
    if let state = summary.deviceStateBytes, summary.packagedBytes == nil {
      table.add(["device state", "\(state) bytes"])
    }
    if let length = summary.descriptionBytes, length > 0 {
      table.add(["description", "\(length) bytes"])
    }
    if let handover = summary.handedOver {
      table.add([
        "passed on",
        "\(summary.opaqueBytes ?? 0) bytes from byte \(handover.offset): \(handover.reason)",
      ])
    }
    return Array(table.lines.drop { $0.isEmpty }) + blocks(summary) + sections(summary)
      + devices(summary)
  }

  private static func state(_ summary: StreamSummary) -> String {
    let order = summary.order == "postcopy" ? "post-copy" : "pre-copy"
    if summary.error != nil { return "\(order), incomplete" }
    return summary.isComplete ? "\(order), complete" : "\(order), not fully understood"
  }

  private static func commands(_ summary: StreamSummary) -> String {
    let more = summary.commandCount - summary.commands.count
    return summary.commands.joined(separator: ", ") + (more > 0 ? ", and \(more) more" : "")
  }

  private static func blocks(_ summary: StreamSummary) -> [String] {
    guard !summary.blocks.isEmpty else { return [] }
    var table = Table(["BLOCK", "SIZE", "PAGES", "ZERO SENT", "RAW SENT", "NOTE"])
    for block in summary.blocks {
      var notes: [String] = []
      if let size = block.pageSize { notes.append("pages of \(ByteCount(size))") }
      if let address = block.address { notes.append("at 0x\(String(address, radix: 16))") }
      table.add([
        block.name, ByteCount(block.length).description, "\(Page.count(bytes: block.length))",
        "\(block.zeroPages)", "\(block.rawPages)", notes.joined(separator: ", "),
      ])
    }
    return [""] + table.lines
  }

  private static func sections(_ summary: StreamSummary) -> [String] {
    guard let id = summary.ramSectionID else { return [] }
    var table = Table(["SECTION", "COUNT", "BYTES", "SMALLEST", "LARGEST"])
    let sections = summary.ramSections
    for (name, kind) in [("START", sections.start), ("PART", sections.part), ("END", sections.end)]
    {
      table.add([
        "ram \(name) (id \(id))", "\(kind.count)", "\(kind.bytes)",
        kind.smallest.map { "\($0)" } ?? "-", kind.largest.map { "\($0)" } ?? "-",
      ])
    }
    return [""] + table.lines
  }

  private static func devices(_ summary: StreamSummary) -> [String] {
    guard let devices = summary.devices else { return [] }
    var table = Table(["DEVICE", "INSTANCE", "VERSION", "BYTES"])
    for device in devices {
      table.add([
        device.name, "\(device.instance)", device.version.map { "\($0)" } ?? "-", "\(device.bytes)",
      ])
    }
    return [""] + table.lines
  }
}
