"""The PromptIR network and the artifact contract; importing this package loads nothing heavy."""
