import Foundation
import Testing

@testable import Agent

@Suite struct QEMULaunchTests {
  private let qemu = "/usr/bin/qemu-system-x86_64"

  private func open(_ change: (inout AgentConfiguration) -> Void = { _ in }) -> AgentConfiguration {
    var configuration = AgentConfiguration()
    configuration.acceptSourceCommandLine = true
    configuration.definitionsDirectory = "/nonexistent"
    configuration.allowedPaths = ["/images", "/usr/share"]
    change(&configuration)
    return configuration
  }

  private func launch(
    _ arguments: [String], machineType: String? = nil, _ configuration: AgentConfiguration? = nil
  ) throws -> [String] {
    try QEMULaunch.prepare(
      name: "web", sourceProgram: qemu, sourceArguments: arguments, machineType: machineType,
      configuration: configuration ?? open()
    ).arguments.filter { !["-name", "guest=web"].contains($0) }
  }

  private func refusal(_ arguments: [String], _ configuration: AgentConfiguration? = nil) -> String
  {
    do { _ = try launch(arguments, configuration) } catch { return "\(error)" }
    return ""
  }

  @Test func startupAndMonitorsOfTheSourceAreTakenOut() throws {
    let kept = try launch([
      "-name", "web", "-S", "-daemonize", "-pidfile", "/run/x.pid", "-incoming", "tcp:0:1",
      "-chardev", "socket,id=m,path=/run/m.sock,server=on", "-mon", "chardev=m,mode=control",
      "-qmp", "unix:/run/q,server=on", "--monitor", "stdio", "-m", "1G",
    ])
    #expect(kept == ["web", "-m", "1G"])
  }

  @Test func aConsoleThatSharesItsDeviceWithAMonitorStays() throws {
    let kept = try launch([
      "-chardev", "null,id=mux,mux=on", "-mon", "mux", "-serial", "chardev:mux",
    ])
    #expect(kept == ["-chardev", "null,id=mux,mux=on", "-serial", "chardev:mux"])
  }

  @Test func aVMWithoutANameGetsOne() {
    var arguments = LaunchArguments(["-m", "1G"])
    arguments.nameIfNameless("a,b")
    #expect(arguments.words == ["-m", "1G", "-name", "guest=a,,b"])
    arguments.nameIfNameless("c")
    #expect(arguments.words.count == 4)
  }

  @Test func aliasesOfMachineTypesAreResolved() throws {
    #expect(
      try launch(["-machine", "pc,accel=tcg"], machineType: "pc-i440fx-7.2")
        == ["-machine", "type=pc-i440fx-7.2,accel=tcg"])
    #expect(try launch(["-M", "q35"], machineType: "pc-q35-7.2") == ["-M", "type=pc-q35-7.2"])
    #expect(try launch([], machineType: "pc-i440fx-7.2") == ["-machine", "pc-i440fx-7.2"])
    #expect(
      try launch(["-machine", "pc-i440fx-6.0"], machineType: "pc-i440fx-7.2")
        == ["-machine", "pc-i440fx-6.0"])
    #expect(
      try launch(["-machine", "microvm"], machineType: "microvm") == ["-machine", "microvm"])
  }

  @Test func withoutDefinitionOrPermissionNothingStarts() {
    let text = refusal([], open { $0.acceptSourceCommandLine = false })
    #expect(text.contains("/nonexistent/web.toml") && text.contains("acceptSourceCommandLine"))
  }

  @Test func onlyAllowedProgramsStart() {
    #expect(throws: LaunchRefusal.self) {
      try QEMULaunch.prepare(
        name: "web", sourceProgram: "/bin/sh", sourceArguments: [], machineType: nil,
        configuration: open { $0.allowedPrograms = ["/a", "/b"] })
    }
    #expect(throws: LaunchRefusal.self) {
      try QEMULaunch.fromDefinition(
        VMDefinition(name: "web", program: "/tmp/qemu", arguments: []), machineType: nil,
        configuration: open())
    }
  }

  @Test(arguments: [
    ["-drive", "file=/etc/shadow,format=raw"],
    ["-blockdev", "driver=file,filename=/images/../etc/x"],
    ["-kernel", "/boot/vmlinuz"], ["-drive", "file=disk.img"], ["-drive", "file=nbd:unix:/etc/x"],
    ["-blockdev", #"{"driver":"qcow2","file":{"driver":"file","filename":"/etc/shadow"}}"#],
    ["-drive", #"file=json:{"driver":"file","filename":"/etc/shadow"}"#],
    ["-serial", "file:/root/.ssh/authorized_keys"], ["-imagesx", "//etc"], ["/etc/passwd"],
    ["-object", "memory-backend-file,id=m,mem-path=/imagesx/ram,size=1G"], ["-hda", "disk"],
    ["-netdev", "tap,id=n,fd=33"], ["-netdev", "tap,id=n,script=/images/run.sh"],
    ["-netdev", "user,id=n,guestfwd=tcp:10.0.2.1:1-cmd:sh"], ["-plugin", "/images/x.so"],
    ["-readconfig", "x"], ["-chardev", "socket,id=c,fd=3"], ["-gdb", "tcp::1"], ["-s"],
    ["-m", "1G", "-runas", "root"], ["-set", "drive.x.file=y"],
    ["-D", "/images/log", "-add-fd", "x"],
    ["-blockdev", #"{"driver":"file","filename":"relative"}"#],
  ])
  func whatIsNotAllowedIsRefused(arguments: [String]) {
    #expect(refusal(arguments) != "", "\(arguments)")
  }

  @Test(arguments: [
    ["-drive", "file=/images/a,,b.qcow2,format=qcow2"], ["-m", "1G"], ["-smp", "4"],
    ["-blockdev", #"{"driver":"qcow2","node-name":"d","file":"d-file"}"#],
    ["-blockdev", "driver=raw,node-name=d,file=file0"], ["-vnc", ":0"],
    ["-append", "root=/dev/vda1 console=ttyS0"], ["-L", "/usr/share/qemu"],
    ["-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no"], ["-netdev", "user,id=n"],
    ["-device", "virtio-net-pci,netdev=n,mac=52:54:00:00:00:01"], ["-rtc", "base=utc"],
    ["-object", "memory-backend-memfd,id=m,size=1G,share=on"], ["-cpu", "host,+x2apic"],
  ])
  func ordinaryArgumentsPass(arguments: [String]) {
    #expect(refusal(arguments) == "", "\(arguments)")
  }

  @Test func pathsAreRewrittenByWholeComponents() throws {
    let rules = open { $0.pathRewrites = [.init(from: "/srv/vm", to: "/images")] }
    #expect(
      try launch(["-drive", "file=/srv/vm/a,,b.raw,format=raw"], rules)
        == ["-drive", "file=/images/a,,b.raw,format=raw"])
    #expect(
      try launch(["-blockdev", #"{"filename":"/srv/vm/x","driver":"file"}"#], rules)
        == ["-blockdev", #"{"driver":"file","filename":"/images/x"}"#])
    #expect(refusal(["-drive", "file=/srv/vmx/a"], rules).contains("/srv/vmx/a"))
  }

  @Test func symbolicLinksDoNotLeadOut() throws {
    let folder = "/tmp/godwit-test-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(
      atPath: folder + "/images", withIntermediateDirectories: true)
    try Data().write(to: URL(filePath: folder + "/images/disk"))
    symlink("/etc/hostname", folder + "/images/out")
    symlink("/nonexistent/file", folder + "/images/dangling")
    symlink(folder + "/images", folder + "/alias")
    let rule = PathRule(allowed: [folder + "/images", folder + "/alias"])
    #expect(rule.allows(folder + "/images/disk"))
    #expect(rule.allows(folder + "/images/not-there-yet"))
    #expect(rule.allows(folder + "/alias/disk"), "the operator's own link")
    #expect(!rule.allows(folder + "/images/out"))
    #expect(!rule.allows(folder + "/images/dangling"))
    #expect(!rule.allows(folder + "/images/dangling/deeper"))
    #expect(!rule.allows(folder + "/images/../images/disk"))
    #expect(!rule.allows(folder))
  }

  @Test func definitionsKeepTheirMonitorsAndAreCheckedWhenPathsAreSet() throws {
    let definition = VMDefinition(
      name: "web", program: qemu, arguments: ["-S", "-qmp", "unix:/run/o.qmp,server=on,wait=off"],
      monitor: "/run/m.qmp")
    var configuration = AgentConfiguration()
    #expect(
      try QEMULaunch.fromDefinition(definition, machineType: nil, configuration: configuration)
        .arguments == [
          "-qmp", "unix:/run/o.qmp,server=on,wait=off", "-name", "guest=web",
          "-qmp", "unix:/run/m.qmp,server=on,wait=off",
        ])
    configuration.allowedPaths = ["/images"]
    #expect(throws: LaunchRefusal.self) {
      try QEMULaunch.fromDefinition(definition, machineType: nil, configuration: configuration)
    }
  }

  @Test func endlessCommandLinesAreRefused() {
    #expect(refusal(Array(repeating: "-x", count: 5000)).contains("too long"))
    #expect(refusal([String(repeating: "x", count: 100_000)]).contains("too long"))
    #expect(refusal(["a\0b"]).contains("NUL"))
  }
}
