"""Surgery by target: which rules to apply, and where, so that a device runs the model; every choice is explained."""
