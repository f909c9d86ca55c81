import Agent
import HostIO

/// A disk that is served and used, as long as a trial lasts.
struct RunningDisk: Sendable {
  let stage: DiskStage
  let mover: any DiskMover
  let client: DiskClient
  /// Whoever serves it until it moves, and whoever takes it.
  let server, destination: DiskProcess
  /// In the order in which they end.
  private let processes: [DiskProcess]
  private let drives: HeadedDevice?

  /// Starts everything of one disk but the backups, and its clients last.
  static func start(_ stage: DiskStage, backups: [String]) async throws -> RunningDisk {
    var processes: [DiskProcess] = []
    let drives = try stage.startDrives()
    do {
      if let device = try await stage.startDevice() { processes.insert(device, at: 0) }
      let destination = try await stage.startDestination()
      processes.insert(destination, at: 0)
      let server = try await stage.startServer()
      processes.insert(server, at: 0)
      let mover = try await Self.mover(stage, server, backups)
      try await mover.prepare()
      let client = try await WorkerThread.run("disk-client") {
        let versions = try DiskAging.change(
          stage.disk, socket: stage.socket, export: DiskStage.exportName, seed: stage.seed)
        drives?.begin()
        return try DiskClient(
          stage.disk, socket: stage.socket, export: DiskStage.exportName, seed: stage.seed,
          versions: versions)
      }
      return RunningDisk(
        stage: stage, mover: mover, client: client, server: server, destination: destination,
        processes: processes, drives: drives)
    } catch {
      let words = processes.map(\.lastWords).joined(separator: "; ")
      for process in processes { await process.end() }
      await drives?.end()
      throw LabError("\(error); server, destination, device: \(words)")
    }
  }

  private static func mover(
    _ stage: DiskStage, _ server: DiskProcess, _ backups: [String]
  ) async throws -> any DiskMover {
    if stage.method.isRival {
      return RivalDiskMover(
        stage: stage, monitor: try await Monitor.connect(path: stage.control, timeoutMs: 10_000))
    }
    let isPull = stage.method == .pull
    let control = DiskControl(
      path: isPull ? stage.arrivalControl : stage.control,
      program: try LabAgent.program(stage.options))
    if stage.method.isStill { return StillDiskMover(stage: stage, control: control) }
    return isPull
      ? PullDiskMover(stage: stage, control: control, server: server)
      : GodwitDiskMover(stage: stage, control: control, backups: backups)
  }

  func end() async {
    await client.stop()
    await mover.end()
    for process in processes { await process.end() }
    await drives?.end()
  }

  /// Pages of the copy, or of the disk where nothing moved, that are not what clients wrote last.
  func differingPages() async throws -> UInt64 {
    let (stage, versions) = (stage, client.versions)
    return try await WorkerThread.run("disk-compare") {
      try DiskImage.differingPages(
        stage.method.isStill ? stage.image : stage.copy, stage.disk, seed: stage.seed,
        versions: versions)
    }
  }
}

/// Servers that have the disks of a trial as they were when their clients began.
struct DiskBackups: Sendable {
  let sockets: [String]
  private let processes: [DiskProcess]

  /// - Parameter stages: those of one trial; each server has a copy of all of them, under their numbers.
  static func start(_ stages: [DiskStage]) async throws -> DiskBackups {
    guard let first = stages.first, first.method == .snapmig else {
      return DiskBackups(sockets: [], processes: [])
    }
    var (sockets, processes): ([String], [DiskProcess]) = ([], [])
    do {
      for number in 0..<first.disk.backupCount {
        var (images, names): ([String], [String]) = ([], [])
        for stage in stages {
          let image = stage.file("backup-\(number).raw")
          try await Command.run("cp", [stage.image, image], timeoutMs: 300_000)
          images.append(image)
          names += ["--export-name", "\(stage.number)"]
        }
        let socket = first.file("backup-\(number)")
        let process = try DiskProcess(
          try LabAgent.program(first.options),
          ["block", "serve"] + images + names + ["--read-only", "--socket", socket], on: nil,
          log: first.file("backup-\(number).log"), folder: first.folder)
        processes.append(process)
        sockets.append(socket)
        try await process.wait { SmallFile.exists(socket) }
      }
      return DiskBackups(sockets: sockets, processes: processes)
    } catch {
      for process in processes { await process.end() }
      throw error
    }
  }

  func end() async { for process in processes { await process.end() } }
}
