import CLI
import Halving
import Strategy

// Godwit with one strategy more: every command knows it by its name, and agents that this program starts have it.
try StrategyCatalog.add("halving") { name, constraints, facts in Halving(name, constraints, facts) }
await GodwitCommand.runAndExit()
