import Glibc
import HostIO

/// Files of a PKI: keys that only their owner may read, certificates for everybody.
public enum PrivateFile {
  static let bytesMax = 1 << 20

  /// Reads a private key. Refuses one that others may read or change, before reading it.
  public static func readKey(_ path: String) throws(PKIError) -> [UInt8] {
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw failure("read the key \(path)") }
    let descriptor = Descriptor(owning: file)
    var status = stat()
    guard unsafe fstat(descriptor.raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw PKIError("\(path) is no file")
    }
    guard status.st_uid == geteuid() || status.st_uid == 0 else {
      throw PKIError(
        "the key \(path) belongs to user \(status.st_uid); chown it to the agent's user")
    }
    // Group read is left to the operator: QEMU's PKIs are often shared with its group.
    guard status.st_mode & 0o037 == 0 else {
      let mode = String(status.st_mode & 0o777, radix: 8)
      throw PKIError("others may use the key \(path) (mode 0\(mode)); chmod 0600 \(path)")
    }
    return try read(path)
  }

  static func read(_ path: String) throws(PKIError) -> [UInt8] {
    do { return try SmallFile.readBytes(path, bytesMax: bytesMax) } catch {
      throw PKIError("\(error)")
    }
  }

  /// The whole file, 1 MiB at most; throws where it is larger, can't be read, or isn't UTF-8.
  public static func readText(_ path: String) throws(PKIError) -> String {
    guard let text = String(validating: try read(path), as: UTF8.self) else {
      throw PKIError("\(path): not text")
    }
    return text
  }

  /// Writes a whole file or none, with `mode` from its first byte on, and sees it on disk.
  ///
  /// - Parameter replacing: whether a file that is there may go; otherwise that is an error.
  static func write(
    _ text: String, to path: String, mode: mode_t, replacing: Bool
  ) throws(PKIError) {
    let temporary = "\(path).\(getpid()).new"
    _ = unsafe unlink(temporary)
    let file = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard file >= 0 else { throw failure("write \(path)") }
    let descriptor = Descriptor(owning: file)
    defer { _ = unsafe unlink(temporary) }
    guard fchmod(descriptor.raw, mode) == 0 else { throw failure("set the mode of \(path)") }
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      // SAFETY: the slice's own address and size.
      let count = unsafe rest.withUnsafeBytes {
        unsafe Glibc.write(descriptor.raw, $0.baseAddress, $0.count)
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw failure("write \(path)") }
      rest = rest.dropFirst(count)
    }
    guard fsync(descriptor.raw) == 0 else { throw failure("write \(path)") }
    if replacing {
      guard unsafe rename(temporary, path) == 0 else { throw failure("replace \(path)") }
    } else if unsafe link(temporary, path) != 0 {
      if errno == EEXIST { throw PKIError("\(path) is there already; --force replaces it") }
      throw failure("write \(path)")
    }
  }

  private static func failure(_ what: String) -> PKIError {
    PKIError("cannot \(SystemError(what).description)")
  }
}
