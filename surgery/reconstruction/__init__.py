"""Fitting a lite model to its source, on images without labels, before any training."""
