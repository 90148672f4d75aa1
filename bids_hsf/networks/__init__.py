"""ONNX networks: which device runs them, how they are opened, what a pass takes."""
