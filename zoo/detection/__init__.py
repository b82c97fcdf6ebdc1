"""Detectors: their images, training, boxes, and what runs of them outside of Python."""
