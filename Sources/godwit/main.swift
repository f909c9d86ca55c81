import CLI

await GodwitCommand.runAndExit()
