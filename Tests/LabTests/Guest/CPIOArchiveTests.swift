import Testing

@testable import Lab

@Suite struct CPIOArchiveTests {
  /// Every field of one entry, as Documentation/driver-api/early-userspace/buffer-format.rst has it.
  @Test func goldenFile() {
    var archive = CPIOArchive()
    archive.add(file: "a/b", content: Array("hello".utf8), mode: 0o755)
    let expected =
      "070701"  // magic
      + "00000001"  // inode
      + "000081ed"  // mode: regular file, 0755
      + "00000000" + "00000000"  // uid, gid
      + "00000001"  // links
      + "00000000"  // mtime
      + "00000005"  // size
      + "00000000" + "00000000"  // device
      + "00000000" + "00000000"  // device that a node stands for
      + "00000004"  // name with its NUL
      + "00000000"  // check, unused
      + "a/b\0" + "\0\0"  // padded to 4
      + "hello" + "\0\0\0"
    #expect(String(decoding: archive.bytes, as: UTF8.self) == expected)
  }

  @Test func goldenDeviceAndTrailer() {
    var archive = CPIOArchive()
    archive.add(device: "dev/ttyS0", major: 4, minor: 64)
    archive.finish()
    let text = String(decoding: archive.bytes, as: UTF8.self)
    #expect(text.contains("00002180"))  // character device, 0600
    #expect(text.contains("00000004" + "00000040" + "0000000a"))  // 4:64, name of 10 bytes
    #expect(text.contains("TRAILER!!!\0"))
    #expect(archive.bytes.count.isMultiple(of: 512))
  }

  @Test func everyPartIsAligned() {
    for length in 0..<9 {
      var archive = CPIOArchive()
      archive.add(directory: String(repeating: "d", count: length + 1))
      archive.add(file: "f", content: [UInt8](repeating: 1, count: length))
      #expect(archive.bytes.count.isMultiple(of: 4))
    }
  }
}
