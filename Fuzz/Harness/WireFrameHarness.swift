import Base
import Wire

/// What must hold for every decoder of the wire protocol whatever the bytes are: what was decoded
/// is within the limits and decodes again from its own encoding. The first byte chooses the frame.
public enum WireFrameHarness {
  /// What broke, or nil.
  public static func run(_ data: [UInt8]) -> String? {
    guard let first = data.first else { return nil }
    let bytes = Array(data.dropFirst())
    do throws(DecodeError) {
      var cursor = ByteCursor(bytes.span.bytes)
      switch first % 5 {
      case 3 where first >= 128:
        let request = try PageRequestFrame(decoding: &cursor)
        guard (1...BatchLimits.rawPagesMax).contains(request.places.count),
          bytes.count <= PageRequestFrame.byteCountMax
        else { return "request over its limits: \(request)" }
        return again(
          request, request.encode,
          { c throws(DecodeError) in try PageRequestFrame(decoding: &c) })
      case 1 where first >= 128:
        let answer = try PageAnswerFrame(decoding: &cursor)
        guard (1...BatchLimits.rawPagesMax).contains(answer.places.count),
          answer.bytes.count == answer.places.count * Page.size,
          bytes.count <= PageAnswerFrame.byteCountMax
        else { return "answer over its limits: \(answer.places)" }
        return again(
          answer, answer.encode, { c throws(DecodeError) in try PageAnswerFrame(decoding: &c) })
      case 0 where first >= 128:
        let mark = try ProbeMark(decoding: &cursor)
        return again(mark, mark.encode, { c throws(DecodeError) in try ProbeMark(decoding: &c) })
      case 4 where first >= 128:
        let beat = try Heartbeat(decoding: &cursor)
        return again(beat, beat.encode, { c throws(DecodeError) in try Heartbeat(decoding: &c) })
      case 0: return try header(&cursor)
      case 1:
        let hello = try Hello(decoding: &cursor)
        return again(hello, hello.encode, { c throws(DecodeError) in try Hello(decoding: &c) })
      case 2: return try batch(bytes)
      case 3:
        let place = try SequencedHeader(decoding: &cursor)
        guard place.after < place.sequence else { return "waits for itself: \(place)" }
        return again(
          place, place.encode, { c throws(DecodeError) in try SequencedHeader(decoding: &c) })
      default:
        let through = try Acknowledgement(decoding: &cursor)
        return again(
          through, through.encode, { c throws(DecodeError) in try Acknowledgement(decoding: &c) })
      }
    } catch { return nil }
  }

  private static func header(_ cursor: inout ByteCursor) throws(DecodeError) -> String? {
    let header = try FrameHeader(decoding: &cursor)
    guard (0...FrameHeader.payloadLimit(header.type)).contains(header.payloadLength) else {
      return "length over its limit: \(header)"
    }
    return again(
      header, header.encode, { c throws(DecodeError) in try FrameHeader(decoding: &c) })
  }

  private static func batch(_ bytes: [UInt8]) throws(DecodeError) -> String? {
    // Mostly the page bytes are said to be there, so that the runs are what is looked at.
    var announced = 0
    var cursor = ByteCursor(bytes.span.bytes)
    _ = try SequencedHeader(decoding: &cursor)
    let runCount = min(Int(try cursor.readBE(UInt32.self)), BatchLimits.runsMax)
    for _ in 0..<runCount {
      _ = try cursor.take(2)
      let isRaw = try cursor.readBE(UInt16.self) >> 8 == 1
      let count = try cursor.readBE(UInt32.self)
      _ = try cursor.take(8)
      if isRaw { announced += Int(count) * Page.size }
    }
    cursor = ByteCursor(bytes.span.bytes)
    let header = try BatchHeader(decoding: &cursor, pageBytes: announced)
    let zeroPages = header.runs.reduce(0) { $0 + ($1.pageClass == .zero ? Int($1.count) : 0) }
    guard header.runs.count <= BatchLimits.runsMax, zeroPages <= BatchLimits.zeroPagesMax,
      header.rawPageCount <= BatchLimits.rawPagesMax, header.byteCount == cursor.position
    else { return "batch over its limits: \(header)" }
    return again(
      header, header.encode,
      { c throws(DecodeError) in try BatchHeader(decoding: &c, pageBytes: announced) })
  }

  private static func again<T: Equatable>(
    _ value: T, _ encode: (inout [UInt8]) -> Void,
    _ decode: (inout ByteCursor) throws(DecodeError) -> T
  ) -> String? {
    var bytes: [UInt8] = []
    encode(&bytes)
    var cursor = ByteCursor(bytes.span.bytes)
    do throws(DecodeError) {
      let same = try decode(&cursor) == value && cursor.remaining == 0
      return same ? nil : "decoded again, it differs: \(value)"
    } catch { return "its own encoding is refused: \(error)" }
  }
}
