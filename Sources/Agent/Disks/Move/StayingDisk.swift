import HostIO
import Wire

/// A disk that stays where it is while its guest moves: both hosts have to have the very same one.
///
/// An older copy at the same path looks like it in every other way, and a guest that went on with it would lose what it
/// has written since. Disks that the guest cannot write to are left out, as each host may have its own copy; so is
/// firmware's flash, which moves with the guest's memory.
struct StayingDisk: Codable, Sendable, Equatable {
  /// Where the guest finds it, as in `VMFacts.Disk`.
  var device: String
  /// What people call it.
  var name: String
  /// The image, as the source names it.
  var sourcePath: String
  /// By which a destination sees that its image is this one.
  var probe: SharedDiskProbe

  /// Leaves a probe beside each disk's image. Blocks.
  ///
  /// - Parameters:
  ///   - moving: these come along.
  ///   - wishes: say which disks the operator vouches for.
  /// - Returns: those that have one, and the names of those that can't have: no files, or in folders that this agent
  ///   may not write to.
  static func leaveProbes(
    _ facts: VMFacts, moving: [ClaimedDisk]?, _ wishes: DiskWishes?, _ id: MigrationID
  ) -> (disks: [StayingDisk], unseen: [String]) {
    let moving = Set(moving?.map(\.claim.device) ?? [])
    var disks: [StayingDisk] = []
    var unseen: [String] = []
    for (number, disk) in facts.disks.enumerated().prefix(DiskSelection.countMax) {
      let isVouchedFor = wishes?.shared.contains { DiskSelection.matches($0, disk) } == true
      guard !disk.isReadOnly, !disk.isFlash, !moving.contains(disk.device), !isVouchedFor else {
        continue
      }
      let name = DiskSelection.name(of: disk)
      // Numbers below are of disks that move. A path that isn't whole is QEMU's to follow, not ours.
      if disk.fileName.hasPrefix("/"),
        let probe = SharedDiskProbe.leave(
          beside: disk.fileName, id, number: DiskSelection.countMax + number)
      {
        disks.append(
          StayingDisk(
            device: disk.device, name: name, sourcePath: disk.fileName, probe: probe))
      } else {
        unseen.append(name)
      }
    }
    return (disks, unseen)
  }

  /// The destination has looked for the probes, or never will.
  static func dropProbes(_ disks: [StayingDisk]) {
    guard !disks.isEmpty else { return }
    _ = WorkerThread("gw-probe-end") {
      for disk in disks { disk.probe.remove(beside: disk.sourcePath) }
    }
  }

  /// Disks of the QEMU that waits here which are files of their own. Blocks.
  static func refusals(_ disks: [StayingDisk], _ facts: VMFacts) -> [Refusal] {
    disks.compactMap { disk in
      // `PairChecks` says when it isn't there.
      guard let own = facts.disks.first(where: { $0.device == disk.device }) else { return nil }
      return disk.refusal(at: own.fileName)
    }
  }

  /// The same, before there is a QEMU: for images that the guest's arguments here name by the source's path. Blocks.
  static func refusals(
    _ disks: [StayingDisk], _ launch: QEMULaunch, _ configuration: AgentConfiguration
  ) -> [Refusal] {
    let arguments = LaunchArguments(launch.arguments)
    let rules = launch.isFromDefinition ? [] : configuration.pathRewrites
    return disks.compactMap { disk in
      let path = LaunchArguments.rewritten(disk.sourcePath, rules)
      // What the arguments do not name is not even looked at.
      guard PathRule.isClean(path), arguments.names(path) else { return nil }
      return disk.refusal(at: path)
    }
  }

  /// Nil: it is the disk, or nothing of which that could be seen.
  private func refusal(at path: String) -> Refusal? {
    guard path.hasPrefix("/"), FileSpace.taken(by: path) != nil, !probe.isSeen(beside: path) else {
      return nil
    }
    let called = name.prefix(200)
    return Refusal(
      .disks,
      "the disk \(called) is \(sourcePath.prefix(300)) at the source, and \(path.prefix(300)) at the destination is "
        + "another file: what the guest has written would be missing",
      remedy:
        "put it on storage that both hosts have, or let it move along (--disks \(called)); where both are the same file, "
        + "and the agents can't see it, say --shared-disk \(called)")
  }
}

extension VMFacts.Disk {
  /// Firmware's: QEMU moves its content like RAM, and writes it to the destination's file.
  fileprivate var isFlash: Bool { device.hasPrefix("pflash") || device.contains(".flash") }
}
