import Glibc

extension CPUSet {
  /// Processors of this host that are on, at least 1.
  public static var processorCount: Int { max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1) }
}
