import HostIO

/// What this host says to the disks that a source would move here.
enum DiskReception {
  /// Looks at each claim: shared, to be copied, or refused by name. Changes nothing. Blocks.
  ///
  /// An image is made only where the guest's own arguments, which the operator wrote or allowed, name one; and never in
  /// the place of one that is there, unless that is to be brought up to date.
  static func judge(
    _ claims: [DiskClaim], _ launch: QEMULaunch, _ configuration: AgentConfiguration
  ) -> (answers: [DiskAnswer], wanted: [IncomingDisks.Wanted], refusals: [Refusal]) {
    var answers: [DiskAnswer] = []
    var wanted: [IncomingDisks.Wanted] = []
    var refusals: [Refusal] = []
    let arguments = LaunchArguments(launch.arguments)
    let rules = launch.isFromDefinition ? [] : configuration.pathRewrites
    for claim in claims {
      let path = claim.wantedPath ?? LaunchArguments.rewritten(claim.sourcePath, rules)
      // What the arguments do not name is not even looked at.
      if PathRule.isClean(path), arguments.names(path), claim.probe?.isSeen(beside: path) == true {
        answers.append(DiskAnswer(device: claim.device, path: path, isShared: true))
      } else if let refusal = refusal(claim, path, arguments) ?? taken(claim, path, wanted) {
        refusals.append(refusal)
      } else {
        answers.append(
          DiskAnswer(
            device: claim.device, path: path, isShared: false,
            copyInode: claim.updatesCopy == true ? MadeFile.at(path)?.inode : nil))
        wanted.append(IncomingDisks.Wanted(claim: claim, path: path))
      }
    }
    return (answers, wanted, refusals + space(wanted))
  }

  private static func refusal(
    _ claim: DiskClaim, _ path: String, _ arguments: LaunchArguments
  ) -> Refusal? {
    if let obstacle = claim.obstacle { return obstacle }
    guard PathRule.isClean(path), !path.hasSuffix("/"), arguments.names(path) else {
      return Refusal(
        .disks,
        "the disk \(claim.name.prefix(200)) would come to lie at \(path.prefix(300)), which the guest's arguments at the "
          + "destination do not name",
        remedy:
          "say where they have it: --disk-map \(claim.name.prefix(200))=/PATH; or --shared-disk \(claim.name.prefix(200))"
      )
    }
    return nil
  }

  /// Nothing is ever overwritten that nobody said to.
  private static func taken(
    _ claim: DiskClaim, _ path: String, _ wanted: [IncomingDisks.Wanted]
  ) -> Refusal? {
    if wanted.contains(where: { $0.path == path }) {
      return Refusal(
        .disks, "two disks would come to lie at \(path)", remedy: "tell them apart with --disk-map")
    }
    if claim.updatesCopy == true { return noCopy(claim, path) }
    guard MadeFile.at(path) != nil else { return nil }
    return Refusal(
      .disks,
      "\(path) exists at the destination, and cannot be seen to be the disk \(claim.name.prefix(200))",
      remedy:
        "move it away there; or say --shared-disk \(claim.name.prefix(200)), where both hosts have the same image"
    )
  }

  /// Why what is at `path` is no older copy of the disk; nil: it may be one.
  private static func noCopy(_ claim: DiskClaim, _ path: String) -> Refusal? {
    let file = try? ImageFile(path: path)
    if let file, !file.isDevice, let state = try? file.state(), state.byteCount == claim.byteCount,
      MadeFile.at(path)?.inode == state.inode
    {
      return nil
    }
    return Refusal(
      .disks,
      "\(path) at the destination is no older copy of the disk \(claim.name.prefix(200)): no file of \(claim.byteCount) bytes",
      remedy: "say where there is one (--disk-map), or use another --disk-method")
  }

  /// Room for what the images take at the source. What was never written takes none here either.
  private static func space(_ wanted: [IncomingDisks.Wanted]) -> [Refusal] {
    let made = wanted.filter { $0.claim.updatesCopy != true }
    let folders = Dictionary(grouping: made) { disk in
      disk.path.lastIndex(of: "/").map { String(disk.path[...$0]) } ?? "/"
    }
    return folders.sorted { $0.key < $1.key }.compactMap { folder, disks in
      guard let free = FileSpace.available(at: folder) else {
        return Refusal(
          .disks, "the folder \(folder) is not there at the destination",
          remedy: "make it, or say --disk-map")
      }
      let needed = disks.reduce(UInt64(0)) { sum, disk in
        let (total, overflow) = sum.addingReportingOverflow(
          disk.claim.takenBytes ?? disk.claim.byteCount)
        return overflow ? .max : total
      }
      guard needed > free else { return nil }
      return Refusal(
        .disks,
        "the disks need \(PrepareChecks.mebibytes(needed)) in \(folder) at the destination, and "
          + "\(PrepareChecks.mebibytes(free)) are free",
        remedy: "free space there")
    }
  }

  /// Whether the waiting QEMU has these disks where they were made: the refusals say what it has instead.
  ///
  /// A file that was there before has to be a disk that the guest may write to as it likes, and no other file of its
  /// arguments: the source is not asked.
  static func check(_ wanted: [IncomingDisks.Wanted], _ facts: VMFacts) -> [Refusal] {
    wanted.compactMap { disk in
      let name = disk.claim.name.prefix(200)
      let isOld = disk.claim.updatesCopy == true
      guard let own = facts.disks.first(where: { $0.device == disk.claim.device }) else {
        // `PairChecks` says so of others.
        return isOld
          ? Refusal(
            .disks, "the destination's QEMU has no disk at \(disk.claim.device.prefix(200))",
            remedy: "correct the definition there") : nil
      }
      let isSame = own.fileName == disk.path || !isOld && own.fileName.contains(disk.path)
      guard own.driver == "raw", isSame, !(isOld && own.isReadOnly) else {
        return Refusal(
          .disks,
          "the destination's QEMU has \(own.fileName) (\(own.driver)) as the disk \(name), not a raw "
            + "\(disk.path)",
          remedy:
            "correct the definition there, or say --disk-map \(name)=/PATH")
      }
      return nil
    }
  }
}
