"""What several rules are made of: ways to look at a layer and modules to put in its place."""
