import FoundationEssentials
import Glibc
import HostIO

/// What a guest boots: a kernel, and an initramfs with everything in it.
public struct GuestImage: Sendable, Equatable {
  public let kernel: String
  public let initramfs: String

  public init(kernel: String, initramfs: String) {
    (self.kernel, self.initramfs) = (kernel, initramfs)
  }

  /// Finds the ingredients and builds the initramfs where the cache does not have it yet.
  ///
  /// - Parameter server: what the guest will run. memcached is in every image.
  public static func prepare(
    cache: CacheFolder = CacheFolder(), server: StoreServer? = nil
  ) async throws -> GuestImage {
    let ingredients = try await Ingredients(cache: cache, hasRedis: server == .redis)
    let initramfs = try await cache.file(
      kind: "image", key: CacheFolder.key(ingredients.versions), name: "initramfs"
    ) { partial in
      try SmallFile.write(try ingredients.archive().bytes, to: partial)
    }
    return GuestImage(kernel: ingredients.kernel, initramfs: initramfs)
  }
}

/// Files of the machine and the cache that go into an image.
struct Ingredients {
  let kernel: String
  /// Name and path, each after those that it depends on.
  let modules: [(name: String, path: String)]
  let busybox, workload: String
  /// Names in the guest and paths here.
  let servers: [(name: String, path: String)]
  /// Absolute paths of the servers' libraries; they get the same paths in the guest.
  let libraries: [String]

  init(cache: CacheFolder, hasRedis: Bool) async throws {
    let remedy = "run scripts/install-dependencies.sh"
    kernel = "\(cache.path)/kernel/current/vmlinuz"
    guard SmallFile.isReadable(kernel) else {
      throw LabError("missing: the guest's kernel; \(remedy)")
    }
    func find(_ name: String, package: String) throws -> String {
      let paths = ["/bin/", "/usr/bin/", "/usr/local/bin/"].map { $0 + name }
      guard let path = paths.first(where: { SmallFile.isExecutable($0) }) else {
        throw LabError("missing: \(name) (Debian package \(package)); \(remedy)")
      }
      return path
    }
    busybox = try find("busybox", package: "busybox-static")
    var servers = [("memcached", try find("memcached", package: "memcached"))]
    if hasRedis {
      // One program under many names: the package with the tools has it, and starts no service here.
      servers.append(("redis-server", try find("redis-check-rdb", package: "redis-tools")))
    }
    self.servers = servers
    modules = try Self.findModules("\(cache.path)/kernel/current/lib/modules")
    var libraries: [String] = []
    for server in servers {
      let needed = Self.libraryPaths(ldd: try await Command.run("ldd", [server.1]))
      libraries += needed.filter { !libraries.contains($0) }
    }
    self.libraries = libraries
    workload = try await GuestProgram.path(cache: cache)
  }

  /// What the image depends on: every file's path, size and time, and the init script.
  var versions: [String] {
    let files = [busybox, workload] + servers.map(\.path) + modules.map(\.path) + libraries
    return files.map { path in
      var information = stat()
      guard unsafe stat(path, &information) == 0 else { return path }
      return "\(path) \(information.st_size) \(information.st_mtim.tv_sec)"
    } + [GuestInit.script, "layout 2"]
  }

  func archive() throws -> CPIOArchive {
    var archive = CPIOArchive()
    for name in ["bin", "dev", "proc", "sys", "mnt", "tmp", "modules", "lib", "lib64", "usr"] {
      archive.add(directory: name)
    }
    archive.add(device: "dev/console", major: 5, minor: 1)
    archive.add(device: "dev/ttyS0", major: 4, minor: 64)
    archive.add(device: "dev/null", major: 1, minor: 3)
    archive.add(directory: "etc")
    archive.add(file: "etc/passwd", content: Array("root:x:0:0:root:/:/bin/sh\n".utf8))
    archive.add(file: "etc/group", content: Array("root:x:0:\n".utf8))
    archive.add(file: "init", content: Array(GuestInit.script.utf8), mode: 0o755)
    for (name, path) in [("busybox", busybox), ("guest-workload", workload)] + servers {
      archive.add(file: "bin/\(name)", content: try content(path), mode: 0o755)
    }
    for module in modules {
      archive.add(file: "modules/\(module.name).ko", content: try content(module.path))
    }
    archive.add(
      file: "modules/order", content: Array(modules.map(\.name).joined(separator: "\n").utf8))
    var folders: Set<String> = ["lib", "lib64", "usr"]
    for library in libraries {
      let parts = library.split(separator: "/").map(String.init)
      for depth in 1..<max(parts.count, 1) {
        let folder = parts[..<depth].joined(separator: "/")
        if folders.insert(folder).inserted { archive.add(directory: folder) }
      }
      archive.add(file: parts.joined(separator: "/"), content: try content(library), mode: 0o755)
    }
    archive.finish()
    return archive
  }

  private func content(_ path: String) throws -> [UInt8] {
    try SmallFile.readBytes(path, bytesMax: 64 << 20)
  }

  /// Paths out of `ldd`'s lines: `name => /path (address)` and `/path (address)`.
  static func libraryPaths(ldd output: String) -> [String] {
    output.split(separator: "\n").compactMap { line in
      line.split(separator: " ").map { $0.drop { $0 == "\t" } }.first { $0.hasPrefix("/") }
        .map(String.init)
    }
  }

  private static func findModules(_ root: String) throws -> [(name: String, path: String)] {
    var found: [String: String] = [:]
    let folder = URL(fileURLWithPath: root)
    guard let kernel = try? FileManager.default.contentsOfDirectory(atPath: folder.path).first,
      let paths = try? FileManager.default.subpathsOfDirectory(atPath: "\(root)/\(kernel)/kernel")
    else {
      throw LabError("missing: kernel modules under \(root); run scripts/install-dependencies.sh")
    }
    let wanted = Set(GuestInit.modules)
    for path in paths where path.hasSuffix(".ko") {
      let name = String(path.dropLast(3).split(separator: "/").last ?? "")
      if wanted.contains(name) { found[name] = "\(root)/\(kernel)/kernel/\(path)" }
    }
    return try ModuleOrder.sorted(found).compactMap { name in found[name].map { (name, $0) } }
  }
}
