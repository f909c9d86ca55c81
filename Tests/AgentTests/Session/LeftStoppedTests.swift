import QMP
import Testing

@testable import Agent

/// Which guests a rollback runs again.
@Suite struct LeftStoppedTests {
  @Test(
    arguments: [
      // Stopped by QEMU for its migration.
      (.postMigrate, false, true), (.finishMigrate, false, true), (.postMigrate, true, true),
      // By its operator, while pages were copied.
      (.paused, false, false), (.paused, true, true),
      // By something that another `cont` would not mend.
      (.ioError, false, false), (.ioError, true, false), (.suspended, false, false),
      (.guestPanicked, true, false),
    ] as [(RunState, Bool, Bool)])
  func onlyWhatTheMigrationStopped(state: RunState, byMigration: Bool, isLeft: Bool) {
    let status = VMStatus(state: state, isRunning: false)
    #expect(status.isLeftStopped(byMigration: byMigration) == isLeft)
  }

  @Test func aGuestThatRunsIsLeftAlone() {
    let status = VMStatus(state: .running, isRunning: true)
    #expect(!status.isLeftStopped(byMigration: true))
  }
}
