"""Dataflow patterns and formulas, found in a graph however they are written."""
