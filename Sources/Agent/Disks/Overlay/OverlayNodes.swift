import QMP

/// QEMU's nodes of a disk on its way, as QEMU is told of them.
struct OverlayNodes {
  private let disk: OverlayDisk
  private let discard: JSONValue

  init(_ disk: OverlayDisk, discard: Bool) {
    (self.disk, self.discard) = (disk, discard ? "unmap" : "ignore")
  }

  private var cache: JSONValue {
    ["direct": .bool(disk.isDirect), "no-flush": .bool(disk.ignoresFlushes)]
  }

  var overlayFile: JSONValue {
    [
      "driver": "file", "node-name": .string(disk.overlayFileName),
      "filename": .string(disk.overlayPath), "discard": discard, "cache": cache,
    ]
  }

  /// - Parameter backing: nil: nothing.
  func overlay(over backing: String?) -> JSONValue {
    format(
      disk.overlayName, "qcow2", file: disk.overlayFileName,
      ["backing": backing.map { .string($0) } ?? .null])
  }

  /// The qcow2 node of the image.
  ///
  /// - Parameter backing: nil: what is behind the image says its header.
  func format(over backing: String?) -> JSONValue {
    format(
      disk.name, "qcow2", file: disk.fileNodeName, backing.map { ["backing": .string($0)] } ?? [:])
  }

  var server: JSONValue { format(disk.serverName, "raw", file: disk.serverFileName, [:]) }

  func serverFile(_ socket: String, _ export: String) -> JSONValue {
    [
      "driver": "nbd", "node-name": .string(disk.serverFileName), "export": .string(export),
      "server": ["type": "unix", "path": .string(socket)],
      "reconnect-delay": .number("\(DiskPivot.reconnectSeconds)"), "discard": discard,
      "cache": cache,
    ]
  }

  private func format(
    _ name: String, _ driver: String, file: String, _ more: [String: JSONValue]
  ) -> JSONValue {
    let usual: [String: JSONValue] = [
      "driver": .string(driver), "node-name": .string(name), "file": .string(file),
      "read-only": false, "discard": discard, "detect-zeroes": .string(disk.detectZeroes),
      "cache": cache,
    ]
    return .object(usual.merging(more) { $1 })
  }
}
