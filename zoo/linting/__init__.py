"""The linter: which nodes of an ONNX model a target accelerates, which not, why, and what would change that."""
