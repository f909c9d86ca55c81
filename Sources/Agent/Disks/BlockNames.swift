import QMP

extension BlockDevice {
  /// Whether a person may mean its disk by that: by its device's id, its node's name, or a path.
  func isCalled(_ name: String) -> Bool {
    guard let node else { return false }
    let qdev = qdev.map { $0.split(separator: "/").map(String.init) } ?? []
    return node.nodeName == name || device == name || qdev.contains(name) || node.fileName == name
  }
}

extension BlockNode {
  /// Of a node that leads to an NBD server: its socket, and the export's name there, as far as QEMU tells them.
  ///
  /// `nbd+unix:///EXPORT?socket=PATH`, which QEMU doesn't encode.
  var nbdServer: (socket: String?, export: String?) {
    let parts = fileName.split(separator: "?socket=", maxSplits: 1)
    return (
      parts.count == 2 ? String(parts[1]) : nil,
      parts.first.map { String($0.dropFirst("nbd+unix:///".count)) }
    )
  }
}
