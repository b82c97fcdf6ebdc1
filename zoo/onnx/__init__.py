"""ONNX: writing it, simplifying it, proving it equal to PyTorch, and timing it."""
