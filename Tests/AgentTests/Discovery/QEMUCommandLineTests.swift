import HostIO
import Testing

@testable import Agent

@Suite struct QEMUCommandLineTests {
  @Test func plainMonitor() {
    let line = QEMUCommandLine(arguments: [
      "-name", "guest=web1,debug-threads=on", "-uuid", "u-1", "--qmp",
      "unix:/run/a,,b.sock,server=on,wait=off", "-incoming", "defer",
    ])
    #expect(line.name == "web1" && line.uuid == "u-1" && line.isIncoming)
    #expect(line.monitorPaths == ["/run/a,b.sock"])
  }

  @Test func nameWithoutKey() {
    #expect(QEMUCommandLine(arguments: ["-name", "db,process=x"]).name == "db")
    #expect(QEMUCommandLine(arguments: ["-name"]).name == nil)
  }

  @Test func monitorsOverCharacterDevices() {
    let line = QEMUCommandLine(arguments: [
      "-chardev", "socket,id=m0,path=/run/m0,server,nowait", "-mon", "chardev=m0,mode=control",
      "-chardev", "socket,id=hmp,path=/run/hmp,server=on", "-mon", "hmp",
      "-chardev", "socket,id=client,path=/run/client", "-mon", "chardev=client,mode=control",
      "-qmp-pretty", "unix:/run/pretty,server=on", "-mon", "chardev=m0,mode=control,pretty=on",
      "-qmp", "tcp:localhost:4444,server=on", "-mon", "chardev=none,mode=control",
    ])
    #expect(line.monitorPaths == ["/run/m0"])
  }

  @Test func proxmoxAndLibvirt() {
    let proxmox = QEMUCommandLine(arguments: [
      "-id", "100", "-name", "vm100,debug-threads=on", "-chardev",
      "socket,id=qmp,path=/var/run/qemu-server/100.qmp,server=on,wait=off", "-mon",
      "chardev=qmp,mode=control",
    ])
    #expect(proxmox.monitorPaths == ["/var/run/qemu-server/100.qmp"])
    let libvirt = [
      "-name", "guest=web,debug-threads=on", "-object",
      #"{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/var/lib/libvirt/qemu/domain-3-web/master-key.aes"}"#,
      "-chardev", "socket,id=charmonitor,fd=24,server=on,wait=off", "-mon",
      "chardev=charmonitor,id=monitor,mode=control",
    ]
    #expect(QEMUCommandLine(arguments: libvirt).monitorPaths.isEmpty)
    #expect(
      VMDiscovery.libvirtMonitor(arguments: libvirt)
        == "/var/lib/libvirt/qemu/domain-3-web/monitor.sock")
  }

  @Test func programs() {
    for program in ["/usr/bin/qemu-system-x86_64", "qemu-kvm", "/usr/libexec/qemu-kvm", "kvm"] {
      #expect(QEMUCommandLine.isQEMU(program: program))
    }
    for program in ["", "/", "qemu-img", "/bin/kvm-ok", "vim"] {
      #expect(!QEMUCommandLine.isQEMU(program: program))
    }
  }

  @Test func optionFields() {
    let fields = OptionFields("socket,id=a,server,path=/x,,y=z", implied: "backend")
    #expect(fields["backend"] == "socket" && fields.isOn("server") && fields["path"] == "/x,y=z")
    #expect(OptionFields("", implied: "a").fields.count == 1)
    #expect(OptionFields(",,,", implied: "a")["a"] == ",")
  }

  private func vm(_ name: String, pid: Int32, monitor: String?) -> DiscoveredVM {
    DiscoveredVM(
      name: name, uuid: nil, identity: ProcessIdentity(pid: pid, startTime: 1), program: "qemu",
      arguments: [], monitorPath: monitor, monitorPaths: monitor.map { [$0] } ?? [], status: nil)
  }

  @Test func resolution() throws {
    let vms = [
      vm("a", pid: 10, monitor: "/a"), vm("b", pid: 11, monitor: nil),
      vm("twin", pid: 12, monitor: "/t1"), vm("twin", pid: 13, monitor: "/t2"),
    ]
    let named = try VMResolver.find("a", among: vms).get()
    #expect(named.monitorPath == "/a" && named.process?.pid == 10)
    #expect(try VMResolver.find("pid-13", among: vms).get().monitorPath == "/t2")
    #expect(try VMResolver.find("qmp:/t1", among: vms).get().name == "twin")
    let unknown = try VMResolver.find("qmp:/elsewhere", among: vms).get()
    #expect(unknown.process == nil && unknown.monitorPath == "/elsewhere")
    #expect(throws: VMResolutionError.noMonitor("b", pid: 11)) {
      try VMResolver.find("b", among: vms).get()
    }
    #expect(throws: VMResolutionError.ambiguous("twin", pids: [12, 13])) {
      try VMResolver.find("twin", among: vms).get()
    }
    #expect(throws: VMResolutionError.notFound("c", known: ["a", "b", "twin", "twin"])) {
      try VMResolver.find("c", among: vms).get()
    }
    #expect(throws: VMResolutionError.relativePath("x")) {
      try VMResolver.find("qmp:x", among: vms).get()
    }
  }
}
