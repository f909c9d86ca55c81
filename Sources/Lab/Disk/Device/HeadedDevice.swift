import BlockStore
import HostIO
import Simulator

/// Drives with a head that a disk of a trial lies on, and its surrogate: each its own, served over NBD by the lab itself.
final class HeadedDevice: Sendable {
  static let original = "original"
  static let surrogate = "surrogate"
  /// Requests that may wait for a drive at once: all that anybody here has under way.
  private static let threadCount = 48
  private static let drainMs: UInt64 = 2000

  private let stores: [HeadedStore]
  private let server: DiskServer

  /// - Parameters:
  ///   - images: by the name that clients ask for.
  ///   - socket: made here, for any number of clients.
  init(_ images: [(name: String, path: String)], socket: String, seed: UInt64) throws {
    stores = try images.enumerated().map { number, image in
      HeadedStore(try FileStore(path: image.path), .hdd, seed: seed &+ UInt64(number))
    }
    var options = DiskServer.Options()
    options.threadCount = Self.threadCount
    server = DiskServer(
      zip(images, stores).map { BlockStore.ServedDisk(name: $0.name, store: $1) }, options)
    server.serve(try UnixSocket.listen(path: socket))
  }

  /// From now on requests take their time.
  func begin() { for store in stores { store.begin() } }

  func end() async {
    let server = server
    _ = try? await WorkerThread.run("drive-end") { server.drain(timeoutMs: Self.drainMs) }
  }
}
