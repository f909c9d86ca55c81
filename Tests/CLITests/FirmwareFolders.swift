/// Arguments with which a QEMU that isn't installed finds its firmware beside it; none for an installed one.
func firmwareFolders(of qemu: String) -> [String] {
  guard !qemu.hasPrefix("/usr/") else { return [] }
  let root = qemu.dropLast("/bin/qemu-system-x86_64".count)
  return ["-L", root + "/share/qemu", "-L", root + "/share/seabios"]
}
