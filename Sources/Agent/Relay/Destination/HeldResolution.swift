import Base
import Compaction
import HostIO
import Wire

/// Pages of a frame that a snapshot on this host is said to hold.
struct HeldResolution {
  let snapshot: HeldSnapshot
  /// Names of the stream's blocks, by their numbers.
  let blockName: (Int) -> String?

  /// Fills the places of `references` that are held with what the snapshot has. All of them are proven at once:
  /// when one is not what it should be, all count as missing. Returns those, by their numbers in `pages`.
  ///
  /// - Parameter places: where the frame's pages that are not zero belong.
  func resolve(
    _ references: [(place: Int, reference: PageReference)], at places: [PagePlace],
    in pages: PageBuffer
  ) -> [Int] {
    var proof: [UInt8] = []
    var identities: [UInt8] = []
    var indices: [Int] = []
    var areThere = true
    for (index, reference) in references {
      guard case .held(let digest) = reference else { continue }
      proof = digest
      indices.append(index)
      let place = places[index]
      guard areThere, let name = blockName(Int(place.block)),
        unsafe snapshot.read(
          block: name, page: place.page, into: pages.part(index * Page.size, Page.size))
      else {
        areThere = false
        continue
      }
      let content = pages.span((index + 1) * Page.size).extracting((index * Page.size)...)
      identities += PageIdentity.bytes(of: content)
    }
    guard !indices.isEmpty else { return [] }
    let isProven = unsafe areThere && PageIdentity.bytes(of: identities.span.bytes) == proof
    return isProven ? [] : indices
  }
}

// A destination that writes pages through QEMU's stream.
extension DestinationRelay {
  /// Whether a frame's references are such that the thread which feeds QEMU can resolve them: all of them in a
  /// snapshot, an image or another guest, and nothing of the frame written in place.
  func resolvesWhileFeeding(_ header: EncodedHeader) -> Bool {
    header.kinds.allSatisfy { kind in
      switch kind {
      case .held, .disk, .gang, .vault: true
      case .raw, .uniform, .compressed: true
      case .delta, .duplicate: false
      }
    } && header.batch.runs.allSatisfy { inPlace(Int($0.block)) == nil }
  }
}

/// Unpacks frames on the thread that feeds QEMU's stream, whose pages may be held in a snapshot, be blocks of images,
/// or the same as another guest's.
struct FeederUnpacking: Sendable {
  let unpacking: PageUnpacking
  let snapshot: HeldSnapshot?
  let vault: HeldVault?
  let images: HeldImages?
  let gang: HeldGang?
  let fetches: StreamFetches
  let control: ControlLane
  let blockName: @Sendable (Int) -> String?

  /// The frame's pages that are not zero. May wait for the source.
  func unpack(
    _ sequence: UInt64, _ header: EncodedHeader, _ body: PageBuffer
  ) throws(RelayFailure) -> PageBuffer {
    let (buffer, references) = try unpacking.unpackReferring(header, body)
    guard !references.isEmpty else { return buffer }
    guard header.kinds.allSatisfy(isAgreedOn) else {
      throw .protocolViolation("references to pages, which were not agreed on")
    }
    let places = header.batch.runs.rawPlaces
    var missing = try images?.resolve(references, in: buffer) ?? []
    missing += gang?.resolve(references, in: buffer) ?? []
    missing += try vault?.resolve(references, in: buffer) ?? []
    if let snapshot {
      missing += HeldResolution(snapshot: snapshot, blockName: blockName)
        .resolve(references, at: places, in: buffer)
    }
    guard !missing.isEmpty else { return buffer }
    try fetches.fetch(
      missing.map { (index: $0, place: places[$0]) }, of: sequence, into: buffer
    ) { (request) throws(RelayFailure) in
      var payload: [UInt8] = []
      request.encode(into: &payload)
      try control.send(.pageRequest, payload)
    }
    return buffer
  }

  private func isAgreedOn(_ kind: PageKind) -> Bool {
    switch kind {
    case .held: snapshot != nil
    case .disk: images != nil
    case .gang: gang != nil
    case .vault: vault != nil
    default: !kind.isReference
    }
  }
}
