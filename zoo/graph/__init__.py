"""ONNX graphs as a linter sees them: nodes with shapes, constants, costs and the torch layers they come from."""
