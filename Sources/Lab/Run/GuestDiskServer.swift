import Agent
import Base
import HostIO

/// The server that a guest has its own disk behind: `godwit block serve --in-use` beside QEMU, on the guest's host. The
/// running guest is put behind it (`godwit block attach`).
final class GuestDiskServer: Sendable {
  private static let attachMs: UInt64 = 60_000

  private let program: String
  private let image, socket, log: String
  private let place: (hosts: HostPair, side: HostPair.Side)
  private let folder: RunFolder
  private let process = Guarded<DiskProcess?>(nil)

  /// - Parameter label: starts the names of its files.
  init(
    _ image: String, program: String, hosts: HostPair, side: HostPair.Side, folder: RunFolder,
    label: String
  ) {
    (self.image, self.program, self.folder, place) = (image, program, folder, (hosts, side))
    socket = folder.file("\(label)-nbd")
    log = folder.file("\(label)-server.log")
  }

  var control: DiskControl {
    DiskControl(path: socket + BlockClient.suffix, program: program)
  }

  /// Returns when it takes orders, which is after it takes clients.
  func start() async throws {
    let server = try DiskProcess(
      program,
      [
        "block", "serve", "--in-use", image, "--socket", socket, "--export-name",
        DiskStage.exportName,
      ], on: place, log: log, folder: folder)
    process.update { $0 = server }
    let control = control
    // The socket of one that was killed is still there.
    try await server.wait { (try? await control.status()) != nil }
  }

  /// Puts the guest of a QEMU behind it.
  ///
  /// - Parameter monitor: path of QEMU's monitor.
  func attach(monitor: String) async throws {
    try await Command.run(
      program,
      [
        "block", "attach", "qmp:\(monitor)", GuestCommandLine.diskNode, "--socket", socket,
        "--export", DiskStage.exportName,
      ], timeoutMs: Self.attachMs)
  }

  /// Ends it at once, as a crash would.
  func kill() async { await process.update { $0 }?.kill() }

  func end() async { await process.update { $0 }?.end() }
}
