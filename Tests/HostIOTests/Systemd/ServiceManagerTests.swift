import Foundation
import Glibc
import Logging
import TestSupport
import Testing

@testable import HostIO

@Suite struct ServiceManagerTests {
  @Test(arguments: [false, true]) func isToldInDatagrams(abstract: Bool) throws {
    let receiver = try DatagramReceiver(abstract: abstract)
    let manager = ServiceManager(address: receiver.path)
    manager.ready(status: "two\nlines")
    #expect(receiver.text() == "READY=1\nSTATUS=two lines")
    manager.reloading()
    #expect(try #require(receiver.text()).hasPrefix("RELOADING=1\nMONOTONIC_USEC="))
    manager.stopping(withinMs: 1500, status: "s")
    #expect(receiver.text() == "STOPPING=1\nSTATUS=s\nEXTEND_TIMEOUT_USEC=1500000")
  }

  @Test func withoutOneNothingHappens() {
    ServiceManager(address: nil).ready(status: "")
    ServiceManager(address: "/tmp/godwit-nobody-listens").ready(status: "")
    ServiceManager(address: "").ready(status: "")
  }
}

@Suite struct InheritedSocketsTests {
  @Test func onlyWhatIsMeantForUsCounts() {
    #expect(InheritedSockets.count(pid: "42", fds: "2", own: 42) == 2)
    #expect(InheritedSockets.count(pid: "41", fds: "2", own: 42) == 0)
    #expect(InheritedSockets.count(pid: nil, fds: "2", own: 42) == 0)
    #expect(InheritedSockets.count(pid: "42", fds: "-1", own: 42) == 0)
    #expect(InheritedSockets.count(pid: "42", fds: "x", own: 42) == 0)
    #expect(InheritedSockets.count(pid: "42", fds: "99999", own: 42) == 16)
  }

  @Test func kindsAreTold() throws {
    let path = "/tmp/godwit-inherit-\(UUID().uuidString.prefix(8))"
    let unix = try UnixSocket.listen(path: path)
    let tcp = try TCPSocket.listen(host: "127.0.0.1", port: 0)
    #expect(InheritedSockets.listeningFamily(unix.raw) == AF_UNIX)
    #expect(InheritedSockets.listeningFamily(tcp.raw) == AF_INET)
    #expect(InheritedSockets.listeningFamily(try UnixSocket.connect(path: path).raw) == nil)
    #expect(InheritedSockets.listeningFamily(-1) == nil)
  }
}

@Suite struct JournalTests {
  @Test func fieldsOfEveryKind() {
    var entry = JournalEntry()
    entry.add("MESSAGE", "one line")
    entry.add("bad name-1", "a\nb")
    entry.add("_SYSTEMD_UNIT", "x")
    entry.add("1", "nothing is left of this name")
    let expected =
      Array("MESSAGE=one line\nBAD_NAME_1\n".utf8) + [3, 0, 0, 0, 0, 0, 0, 0]
      + Array("a\nb\nSYSTEMD_UNIT=x\n".utf8)
    #expect(entry.bytes == expected)
  }

  @Test func anEntryIsBounded() {
    var entry = JournalEntry()
    entry.add("LONG", String(repeating: "x", count: 8 << 20))
    for number in 0..<1000 { entry.add("F\(number)", String(repeating: "x", count: 64 << 10)) }
    #expect(entry.bytes.count < 2 << 20)
  }

  @Test func metadataBecomeFields() throws {
    let receiver = try DatagramReceiver()
    let journal = try DatagramSocket(to: receiver.path)
    var logger = Logger(label: "godwit") { JournalLogHandler(label: $0, journal: journal) }
    logger[metadataKey: "migration"] = "abc"
    logger.warning("phase", metadata: ["peer": "h:1"])
    let lines = try #require(receiver.text()).split(separator: "\n").map(String.init)
    #expect(lines.first == "MESSAGE=phase migration=abc peer=h:1")
    #expect(lines.contains("PRIORITY=4") && lines.contains("SYSLOG_IDENTIFIER=godwit"))
    #expect(lines.contains("GODWIT_MIGRATION=abc") && lines.contains("GODWIT_PEER=h:1"))
  }

  @Test func onlyTheNamedStreamIsTheJournal() {
    #expect(!JournalLogHandler.isStandardError("0:0"))
    #expect(!JournalLogHandler.isStandardError(""))
  }
}
