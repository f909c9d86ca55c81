import Agent
import Glibc
import HostIO

/// What a pivot came to.
struct DiskPivotReport: Encodable {
  let vm, disk, file, place: String
  /// The longest that QEMU took for one change, in microseconds: what the guest's requests may have waited.
  let switchUs: UInt64
  /// For qcow2 disks: what the guest wrote to overlays meanwhile, in bytes.
  let copiedBytes: UInt64?

  static func run(
    _ vm: String, _ disk: String, json: Bool,
    _ raw: (DiskPivot, GuestDisk) async throws -> UInt64,
    overlaid: (OverlayPivot, OverlayDisk) async throws -> OverlayPivot.Report
  ) async throws {
    let resolved = try await VMResolver.resolve(vm)
    let monitor = try await Monitor.connect(path: resolved.monitorPath, timeoutMs: 5000)
    do {
      let report = try await carryOut(monitor, resolved.name, disk, json, raw, overlaid)
      await monitor.close()
      if json { return try Output.json(report) }
      let copied = report.copiedBytes.map { "; \($0) bytes were written meanwhile" } ?? ""
      Output.line(
        "\(TerminalText.plain(report.disk)) of \(TerminalText.plain(report.vm)) is on the "
          + "\(report.place), after \(report.switchUs / 1000) ms\(copied)")
    } catch {
      await monitor.close()
      guard let known = error as? GuestDiskError else { throw error }
      throw ControlError(known.isRefusal ? .refused : .failed, "\(known)")
    }
  }

  private static func carryOut(
    _ monitor: Monitor, _ vm: String, _ disk: String, _ json: Bool,
    _ raw: (DiskPivot, GuestDisk) async throws -> UInt64,
    _ overlaid: (OverlayPivot, OverlayDisk) async throws -> OverlayPivot.Report
  ) async throws -> DiskPivotReport {
    let overlays = OverlayPivot(
      monitor.client,
      guarding: { disk in
        try PrivateDirectory.make(ControlSocket.defaultFolder)
        return try await CopyGuard.start(
          disk, monitor: monitor.path,
          socket: "\(ControlSocket.defaultFolder)/attach-\(getpid()).guard")
      }
    ) { step in
      if !json { Output.line(TerminalText.plain(step)) }
    }
    if let found = try await overlays.find(disk) {
      let way = try await overlaid(overlays, found)
      guard let now = try await overlays.find(found.name) else {
        throw GuestDiskError.notFound(found.name, known: [])
      }
      return DiskPivotReport(
        vm: vm, disk: now.name, file: now.path, place: now.place.rawValue, switchUs: way.switchUs,
        copiedBytes: way.copiedBytes)
    }
    let pivot = DiskPivot(monitor.client)
    let found = try await pivot.find(disk)
    let took = try await raw(pivot, found)
    let now = try await pivot.find(found.name)
    return DiskPivotReport(
      vm: vm, disk: now.name, file: now.path, place: now.place == .server ? "server" : "file",
      switchUs: took, copiedBytes: nil)
  }
}
