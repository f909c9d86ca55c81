import Foundation
import Testing

@testable import HostIO

@Suite struct CPUSetTests {
  @Test(arguments: ["", "0", "0-3,8", "1,3,5-63,65-66,8191"])
  func listsAreReadAsTheyAreWritten(text: String) throws {
    if text.isEmpty {
      #expect(CPUSet().description.isEmpty && CPUSet().isEmpty)
      return
    }
    let set = try #require(CPUSet(parsing: text))
    #expect(set.description == text)
    let coded = try JSONDecoder().decode(CPUSet.self, from: JSONEncoder().encode(set))
    #expect(coded == set)
  }

  @Test(arguments: ["a", "3-1", "1-2-3", "1,", "-1", "8192", "0-99999999999999999999", " 1", "+1"])
  func whatIsNoListIsRefused(text: String) {
    #expect(CPUSet(parsing: text) == nil)
    let json = Data("\"\(text)\"".utf8)
    #expect(throws: DecodingError.self) { try JSONDecoder().decode(CPUSet.self, from: json) }
  }

  @Test func setOperations() {
    let (a, b) = (CPUSet([0, 2, 64, 8191, 9000, -1]), CPUSet([2, 3]))
    #expect(a.count == 4 && a.contains(8191) && !a.contains(9000) && !a.contains(-1))
    #expect(a.union(b).numbers == [0, 2, 3, 64, 8191])
    #expect(a.intersection(b).numbers == [2])
    #expect(a.numbers(from: 3) == [64, 8191, 0, 2])
  }
}
