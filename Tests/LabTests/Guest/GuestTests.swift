import Base
import Testing

@testable import Lab

@Suite struct GuestTests {
  private func line(
    _ specification: GuestSpecification, from source: String = "10.0.2",
    to destination: String = "10.0.2"
  ) -> GuestCommandLine {
    GuestCommandLine(
      specification: specification, image: GuestImage(kernel: "/k", initramfs: "/i"),
      source: QEMUProgram(path: "/q1", version: source, firmwareFolders: ["/fw"]),
      destination: QEMUProgram(path: "/q2", version: destination))
  }

  private func placement(_ role: GuestPlacement.Role) -> GuestPlacement {
    GuestPlacement(
      network: .tap(interface: "tap0", guestAddress: "10.0.0.1/24"), serialSocket: "/s",
      monitorSocket: "/m", role: role, memoryFile: "/f", disk: "/d")
  }

  private func value(_ option: String, _ arguments: [String]) throws -> String {
    let index = try #require(arguments.firstIndex(of: option))
    return arguments[index + 1]
  }

  @Test func sourceAndDestinationDifferOnlyWhereTheyMust() throws {
    let line = line(GuestSpecification())
    let source = try line.arguments(for: placement(.source))
    let destination = try line.arguments(for: placement(.destination))
    #expect(destination.suffix(2) == ["-incoming", "defer"])
    #expect(source.filter { $0 != "-L" && $0 != "/fw" } == Array(destination.dropLast(2)))
  }

  /// The root disk comes after the guest's own, is only read, and the guest is told where it is.
  @Test(arguments: [true, false]) func theRootDiskIsTheLastOne(hasOwn: Bool) throws {
    var specification = GuestSpecification()
    specification.rootDisk = .mebibytes(64)
    var placement = placement(.source)
    placement.disk = hasOwn ? "/d" : nil
    placement.rootDisk = "/root.raw"
    let arguments = try line(specification).arguments(for: placement)
    #expect(
      arguments.contains(
        "driver=file,node-name=root0-file,filename=/root.raw,read-only=on,cache.direct=on"))
    #expect(
      arguments.filter { $0.hasPrefix("virtio-blk-pci") }.last
        == "virtio-blk-pci,drive=root0,id=root0-device")
    let words = try value("-append", arguments).split(separator: " ")
    #expect(words.contains(hasOwn ? "gw.root=vdb" : "gw.root=vda"))
    specification.machine = .microvm
    #expect(throws: LabError.self) { try specification.validate() }
    specification.machine = .q35
    specification.rootDisk = .mebibytes(1)
    #expect(throws: LabError.self) { try specification.validate() }
  }

  @Test func whatIsReadFromTheRootDiskLeavesLessRoom() {
    var specification = GuestSpecification()
    let before = specification.workloadRoomMiB
    specification.rootDisk = .mebibytes(64)
    #expect(specification.workloadRoomMiB == before - 96)
  }

  @Test func anAgentAddsItsOwnArguments() throws {
    let arguments = try line(GuestSpecification()).arguments(for: placement(.destinationOfAgent))
    #expect(!arguments.contains("-incoming") && !arguments.contains("-S"))
  }

  @Test func theOlderQEMUDecidesTheMachineType() throws {
    var specification = GuestSpecification()
    let older = try line(specification, from: "7.2.22", to: "10.0.2")
      .arguments(for: placement(.destination))
    #expect(try value("-machine", older) == "pc-i440fx-7.2,accel=tcg")
    specification.machine = .q35
    let newer = try line(specification).arguments(for: placement(.source))
    #expect(try value("-machine", newer) == "pc-q35-10.0,accel=tcg")
    #expect(
      try line(specification, from: "10.0.2", to: "9.2.1").arguments(for: placement(.source))
        .contains("pc-q35-9.2,accel=tcg"))
  }

  @Test func oldQEMUGetsMemoryThatKeepsItFromLosingPages() throws {
    let specification = GuestSpecification()
    let affected = line(specification, from: "7.2.22", to: "7.2.22")
    #expect(try value("-m", affected.arguments(for: placement(.source))) == "524352K")
    let sound = try line(specification).arguments(for: placement(.source))
    #expect(try value("-m", sound) == "524288K")
  }

  @Test func hugePagesAndOldQEMUAreRefused() {
    var specification = GuestSpecification()
    specification.backend = .hugepages
    #expect(throws: LabError.self) {
      try specification.blockSizesKiB(avoidingDirtyLogDefect: true)
    }
  }

  @Test func everyNodeIsABlockOfItsOwn() throws {
    var specification = GuestSpecification()
    specification.numaNodes = 2
    specification.cpus = 2
    specification.backend = .file
    let arguments = try line(specification).arguments(for: placement(.source))
    #expect(arguments.contains("memory-backend-file,id=mem0,size=262144K,share=on,mem-path=/f0"))
    #expect(arguments.contains("memory-backend-file,id=mem1,size=262144K,share=on,mem-path=/f1"))
    #expect(arguments.contains("node,nodeid=1,memdev=mem1"))
  }

  @Test func impossibleGuestsAreRefused() {
    var specification = GuestSpecification()
    specification.numaNodes = 2
    #expect(throws: LabError("--numa 2 needs --smp 2 or more")) { try specification.validate() }
    specification.cpus = 2
    specification.machine = .microvm
    #expect(throws: LabError("microvm has no NUMA nodes")) { try specification.validate() }
    specification.cpus = 0
    #expect(throws: LabError.self) { try specification.validate() }
  }

  @Test func tooFewHugePagesAreSaid() throws {
    var specification = GuestSpecification()
    try specification.checkHugePages(free: nil)
    specification.backend = .hugepages
    try specification.checkHugePages(free: 512)
    #expect(throws: LabError.self) { try specification.checkHugePages(free: 511) }
    #expect(throws: LabError.self) { try specification.checkHugePages(free: nil) }
  }

  @Test func microvmHasNoPCI() throws {
    var specification = GuestSpecification()
    specification.machine = .microvm
    let arguments = try line(specification).arguments(for: placement(.source))
    #expect(!arguments.contains { $0.contains("-pci") })
    #expect(arguments.contains("virtio-blk-device,drive=disk0,id=disk0-device"))
  }

  @Test(arguments: [
    ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright", "10.0.2"),
    ("QEMU emulator version 7.2.22", "7.2.22"),
    ("QEMU emulator version 9.1.50 (v9.1.0-1)", "9.1.50"),
  ])
  func versionOfQEMU(text: String, version: String) {
    #expect(QEMUProgram.version(in: text) == version)
  }

  @Test func notQEMU() {
    #expect(QEMUProgram.version(in: "") == nil)
    #expect(QEMUProgram.version(in: "emulator version") == nil)
    #expect(QEMUProgram.version(in: "cat version abc") == nil)
  }

  @Test func versionsAreComparedAsNumbers() {
    let old = QEMUProgram(path: "", version: "9.2.1")
    let new = QEMUProgram(path: "", version: "10.0.2")
    #expect(old.isOlder(than: new) && !new.isOlder(than: old) && !new.isOlder(than: new))
  }

  @Test func librariesOutOfLdd() {
    let output = """
      \tlinux-vdso.so.1 (0x00007ffd)
      \tlibevent-2.1.so.7 => /lib/x86_64-linux-gnu/libevent-2.1.so.7 (0x00007f)
      \tlibnone.so => not found
      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)
      """
    #expect(
      Ingredients.libraryPaths(ldd: output)
        == ["/lib/x86_64-linux-gnu/libevent-2.1.so.7", "/lib64/ld-linux-x86-64.so.2"])
  }

  @Test func modulesComeAfterWhatTheyDependOn() {
    let order = ModuleOrder.sorted([
      "virtio": ["virtio_ring"], "virtio-rng": ["virtio", "rng-core"], "rng_core": [],
      "virtio_ring": [], "loop_a": ["loop_b"], "loop_b": ["loop_a"], "ext4": ["built_in"],
    ])
    #expect(order.count == 7)
    for (first, second) in [
      ("virtio_ring", "virtio"), ("virtio", "virtio-rng"), ("rng_core", "virtio-rng"),
    ] {
      #expect(order.firstIndex(of: first)! < order.firstIndex(of: second)!)
    }
  }

  @Test func dependenciesOutOfAModule() {
    let module = Array("\u{7F}ELF\0license=GPL\0depends=virtio,virtio_ring\0name=x\0".utf8)
    #expect(ModuleOrder.dependencies(of: module) == ["virtio", "virtio_ring"])
    #expect(ModuleOrder.dependencies(of: Array("\0depends=\0".utf8)) == [])
    #expect(ModuleOrder.dependencies(of: Array("\0depends=never ends".utf8)) == [])
    #expect(ModuleOrder.dependencies(of: []) == [])
  }
}
