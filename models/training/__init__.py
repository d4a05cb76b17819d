"""Training and evaluation of PromptIR; needs the `train` extra."""
