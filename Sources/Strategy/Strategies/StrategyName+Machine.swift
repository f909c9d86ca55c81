extension StrategyName {
  /// The machine of this name, held to the user's time.
  public func makeMachine(_ constraints: MigrationConstraints, _ facts: EngineFacts)
    -> DeadlineGuard
  {
    let inner: any MigrationStrategy =
      switch self {
      case .hotpages: HotPages(constraints, facts)
      case .adaptive: Adaptive(constraints, facts)
      case .timebound: TimeBound(constraints, facts)
      case .dsm: DSM(constraints, facts)
      case .auto: Auto(constraints, facts)
      case .ramp: Ramp(constraints, facts)
      case .stall: Stall(constraints, facts)
      default:
        // A name that is not Godwit's is in the catalogue, else it would not exist.
        StrategyCatalog.maker(of: self)?(self, constraints, facts)
          ?? PrecopyRounds(constraints, facts)
      }
    return DeadlineGuard(inner, constraints, facts)
  }
}
