import Testing

@testable import Lab

@Suite struct MatrixPlanTests {
  private func scenario(seed: UInt64 = 1, rounds: Int = 4) throws -> MatrixScenario {
    var scenario = try MatrixScenario.parse(MatrixScenarioTests.small, path: "x.toml")
    scenario.methods = Rival.allCases.map { LabMethod.rival($0) } + [.godwit]
    (scenario.seed, scenario.rounds) = (seed, rounds)
    return scenario
  }

  @Test func everyCellOnce() throws {
    let cells = MatrixPlan.cells(try scenario())
    #expect(cells.count == 4 * 2 * 2 * 6)
    #expect(Set(cells.map(\.key)).count == cells.count)
  }

  /// Methods of a block run one after the other: what is compared is close in time.
  @Test func blocksStayTogether() throws {
    let blocks = MatrixPlan.cells(try scenario()).map(\.block)
    let changes = zip(blocks, blocks.dropFirst()).count { $0 != $1 }
    #expect(changes + 1 == Set(blocks).count)
    #expect(
      MatrixPlan.cells(try scenario()).map(\.round) == blocks.compactMap { Int($0.prefix(1)) })
  }

  @Test func theSeedDecidesTheOrder() throws {
    let cells = MatrixPlan.cells(try scenario())
    #expect(MatrixPlan.cells(try scenario()) == cells)
    #expect(MatrixPlan.cells(try scenario(seed: 2)) != cells)
    // No method is always first.
    let firsts = Set(
      Dictionary(grouping: cells, by: \.block).values.compactMap { $0.first?.method })
    #expect(firsts.count > 2)
  }

  @Test func aPartKeepsTheOrderOfTheWhole() throws {
    let all = MatrixPlan.cells(try scenario())
    var selection = MatrixSelection()
    selection.guests = ["b"]
    selection.methods = [.rival(.xbzrle), .godwit]
    selection.rounds = 2
    let part = MatrixPlan.cells(try scenario(), selection)
    #expect(part.count == 2 * 2 * 2)
    #expect(
      part
        == all.filter {
          $0.guest == "b" && $0.round < 2 && [.rival(.xbzrle), .godwit].contains($0.method)
        })
  }

  @Test func aMethodThatTheFileDoesNotHaveMayBeAskedFor() throws {
    var selection = MatrixSelection()
    selection.methods = [.strategy("timebound")]
    let cells = MatrixPlan.cells(try scenario(), selection)
    #expect(cells.count == 4 * 2 * 2)
    #expect(cells.allSatisfy { $0.method.name == "godwit-timebound" })
  }
}
