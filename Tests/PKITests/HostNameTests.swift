import PKI
import Testing

@Suite struct HostNameTests {
  @Test(arguments: [
    ("Host-A", "host-a"), ("host.example.", "host.example"), ("10.0.0.1", "10.0.0.1"),
    ("[fe80::1]", "fe80::1"), ("0:0:0:0:0:0:0:1", "::1"), ("*.example.org", "*.example.org"),
  ])
  func read(text: String, name: String) throws {
    #expect(try #require(HostName(text)).description == name)
  }

  @Test(arguments: [
    "", ".", "a..b", "-a", "a b", "host:4750", "*", "a.*", "ü.example",
    String(repeating: "a", count: 64),
    Array(repeating: "abcdefg", count: 40).joined(separator: "."),
    "a/b", "a\0b",
  ])
  func refused(text: String) { #expect(HostName(text) == nil) }

  @Test(arguments: [
    ("host-a", "HOST-A", true), ("host-a", "host-b", false), ("*.example", "a.example", true),
    ("*.example", "b.a.example", false), ("*.example", "example", false),
    ("10.0.0.1", "10.0.0.1", true), ("10.0.0.1", "10.0.0.2", false),
    ("::ffff:10.0.0.1", "10.0.0.1", false),
  ])
  func covers(name: String, wanted: String, isCovered: Bool) throws {
    let (name, wanted) = (try #require(HostName(name)), try #require(HostName(wanted)))
    #expect(name.covers(wanted) == isCovered)
  }
}

@Suite struct DenyListTests {
  @Test func readsWhatShowPrints() throws {
    let authority = try Authority.create(name: "a")
    let host = try authority.issue(names: [.dns("h")]).certificate
    let other = try authority.issue(names: [.dns("h")]).certificate
    for text in [
      host.serial, "serial \(host.serial.uppercased())", "sha256 \(host.fingerprint)  # lost",
      "# comment\n\n\(host.fingerprint)\r\n", "00\(host.serial)",
    ] {
      let list = try DenyList(parsing: text, from: "denied")
      #expect(list.covers(host) && !list.covers(other), "\(text)")
    }
    #expect(try !DenyList(parsing: "", from: "denied").covers(host))
  }

  @Test(arguments: ["xyz", "serial", "serial 12 34", "sha1 12", String(repeating: "a", count: 65)])
  func aLineThatSaysNothingIsAnError(line: String) {
    #expect { try DenyList(parsing: "12\n" + line, from: "denied") } throws: {
      "\($0)".contains("denied, line 2")
    }
  }
}
