import Testing

@testable import HostIO

@Suite struct CPUGroupPlaceTests {
  private let hybrid = """
    31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 master:1 - cgroup cgroup rw,cpu,cpuacct
    34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
    """
  private let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"

  @Test func aHierarchyOfItsOwnComesFirst() {
    let groups = "3:cpuset:/\n2:cpu,cpuacct:/machine.slice/a:b\n0::/machine.slice/x"
    #expect(
      CPUGroupPlace.find(groups: groups, mounts: hybrid)
        == CPUGroupPlace(
          version: .v1, directory: "/sys/fs/cgroup/cpu,cpuacct/machine.slice/a:b"))
  }

  @Test func otherwiseTheUnifiedOne() {
    for (path, directory) in [
      ("/machine.slice/vm.scope", "/sys/fs/cgroup/machine.slice/vm.scope"),
      ("/", "/sys/fs/cgroup"),
    ] {
      #expect(
        CPUGroupPlace.find(groups: "0::\(path)\n", mounts: unified)
          == CPUGroupPlace(version: .v2, directory: directory))
    }
  }

  /// In a container the mount shows a part of the hierarchy.
  @Test func mountsOfAPartAreCutOff() {
    let mounts = #"32 31 0:29 /pod\0401 /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"#
    let found = CPUGroupPlace.find(groups: "2:cpu:/pod 1/vm", mounts: mounts)
    #expect(found?.directory == "/sys/fs/cgroup/cpu/vm")
    #expect(CPUGroupPlace.find(groups: "2:cpu:/pod 12/vm", mounts: mounts) == nil)
    #expect(CPUGroupPlace.find(groups: "2:cpu:/", mounts: mounts) == nil)
  }

  @Test(arguments: ["", "0", "0::", "0::relative", "0::/../vm", "0::/a/../b", "2:cpu:/x", ":::"])
  func whatIsNotUnderstoodIsNowhere(groups: String) {
    #expect(CPUGroupPlace.find(groups: groups, mounts: unified) == nil)
    #expect(CPUGroupPlace.find(groups: groups, mounts: "nonsense - cgroup2") == nil)
  }
}
