import Crypto
import HostIO

extension ServerMoves {
  /// - Parameters:
  ///   - folder: of the agent's sockets.
  ///   - id: of the migration.
  static func handles(_ disks: [MovingDisk], in folder: String, id: String) -> [Handle] {
    disks.compactMap { disk in
      guard let server = disk.server else { return nil }
      let socket = uriPath(socketPath(disk, folder, id))
      return Handle(
        control: server.control, disk: server.export,
        destination: "nbd+unix:///\(IncomingDisks.export(disk.number))?socket=\(socket)")
    }
  }

  /// Opens the ways to the destination, one for each disk that is behind a server. Blocks.
  ///
  /// - Parameters:
  ///   - copied: is told what goes by; nil: nobody is.
  ///   - dial: opens a connection to the destination's agent.
  static func tunnels(
    _ disks: [MovingDisk], in folder: String, id: String,
    copied: CopiedDisks?, dial: @escaping @Sendable () throws -> any ByteConnection,
    pace: @escaping @Sendable (UInt64) -> UInt64
  ) throws -> [DiskTunnel] {
    var made: [DiskTunnel] = []
    do {
      for disk in disks {
        guard let server = disk.server else { continue }
        made.append(
          try DiskTunnel(
            path: socketPath(disk, folder, id), in: folder, admitting: server.control,
            dial: dial, copied: copied, pace: pace))
      }
    } catch {
      for tunnel in made { tunnel.cut() }
      throw error
    }
    return made
  }

  /// A server remembers by the address what it has sent to an older copy, and so would not believe its manifest: each copy
  /// has one of its own, whichever migration it is.
  private static func socketPath(_ disk: MovingDisk, _ folder: String, _ id: String) -> String {
    guard let inode = disk.copyInode else {
      return "\(folder)/\(id.prefix(12))-\(disk.number).move"
    }
    let digest = SHA256.hash(data: Array("\(inode) \(disk.destinationPath)".utf8))
    let name = digest.prefix(6).reduce(into: "") { text, byte in
      text += String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
    }
    return "\(folder)/\(name).copy"
  }

  /// A path as a part of a URI (RFC 3986, `unreserved` and the slash).
  private static func uriPath(_ path: String) -> String {
    path.utf8.reduce(into: "") { text, byte in
      let scalar = Unicode.Scalar(byte)
      switch scalar {
      case "a"..."z", "A"..."Z", "0"..."9", "/", "-", ".", "_", "~":
        text.unicodeScalars.append(scalar)
      default:
        let digits = String(byte, radix: 16, uppercase: true)
        text += byte < 16 ? "%0" + digits : "%" + digits
      }
    }
  }
}
