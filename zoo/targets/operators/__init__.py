"""What a node does in ONNX's terms, whichever way its opset writes it: parameters, axes, windows, scales, operands."""
