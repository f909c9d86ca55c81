import Base
import Compaction
import QEMUStream
import Wire

/// What must hold for the decoders of a pull whatever the bytes are: what was decoded is within the
/// limits and encodes to the bytes it came from; a page request lies inside its block. The first
/// byte chooses the frame.
public enum PullFrameHarness {
  private static let blocks = [
    RAMBlock(name: "pc.ram", length: 1 << 30), RAMBlock(name: "r", length: 4096),
  ]

  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    guard let first = data.first else { return nil }
    let bytes = Array(data.dropFirst())
    do throws(DecodeError) {
      var cursor = ByteCursor(bytes.span.bytes)
      var encoded: [UInt8] = []
      switch first % 4 {
      case 0 where first >= 128:
        let frame = try PullIdentities(decoding: &cursor)
        guard (1...PullIdentities.pagesMax).contains(frame.identities.count) else {
          return "identities over their limit: \(frame)"
        }
        frame.encode(into: &encoded)
      case 0:
        let frame = try PullRequests(decoding: &cursor)
        guard frame.requests.count <= PullLimits.requestsMax,
          frame.requests.allSatisfy({ (1...PullLimits.requestPagesMax).contains($0.count) })
        else { return "requests over their limits: \(frame)" }
        frame.encode(into: &encoded)
      case 1 where first >= 128:
        let frame = try PullHeat(decoding: &cursor)
        guard frame.runs.reduce(0, { $0 + $1.upperBound - $1.lowerBound }) <= PullHeat.pagesMax
        else { return "hot pages over their limit: \(frame)" }
        frame.encode(into: &encoded)
      case 1:
        let frame = try InvalidPages(decoding: &cursor)
        guard frame.runs.count <= PullLimits.invalidRunsMax else { return "too many runs" }
        for (run, next) in zip(frame.runs, frame.runs.dropFirst())
        where next.lowerBound < run.upperBound { return "\(next) after \(run)" }
        frame.encode(into: &encoded)
      case 2 where first < 128: try PullDone(decoding: &cursor).encode(into: &encoded)
      case 2: try DeviceStatePart(decoding: &cursor).encode(into: &encoded)
      case 3 where first >= 192: return packedPages(bytes)
      default: return try pageRequests(bytes)
      }
      return encoded == bytes ? nil : "encoded again, other bytes"
    } catch { return nil }
  }

  /// Pages that a pull takes need nothing but their frame.
  private static func packedPages(_ bytes: [UInt8]) -> String? {
    var cursor = ByteCursor(bytes.span.bytes)
    guard let header = try? EncodedHeader(decoding: &cursor), header.isSelfContained else {
      return nil
    }
    var pages = [UInt8](repeating: 0x5A, count: header.kinds.count * Page.size + 64)
    let body = bytes.span.bytes.extracting(header.byteCount...)
    let references = pages.withUnsafeMutableBytes { target in
      try? BatchUnpacker().unpack(
        header, body, into: UnsafeMutableRawBufferPointer(rebasing: target.dropLast(64)))
    }
    guard references?.isEmpty ?? true else { return "made of what isn't in the frame" }
    return pages.suffix(64).allSatisfy { $0 == 0x5A } ? nil : "wrote beyond its pages"
  }

  private static func pageRequests(_ bytes: [UInt8]) throws(DecodeError) -> String? {
    var path = ReturnPathReader()
    var reader = PageRequestReader(blocks: blocks)
    for message in try path.receive(bytes.span.bytes) {
      guard case .requestPages(let start, let length, let block) = message else { continue }
      let request = try reader.request(start: start, length: length, block: block)
      guard request.count > 0, request.count <= PageRequestReader.pagesMax,
        request.firstPage + request.count <= UInt64(blocks[request.block].pageCount)
      else { return "outside of its block: \(request)" }
      if let block, block != blocks[request.block].name { return "another block: \(request)" }
    }
    return nil
  }
}
