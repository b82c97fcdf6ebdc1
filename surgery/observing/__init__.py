"""What a model does: its forward seen on example inputs, and traced as a graph."""
