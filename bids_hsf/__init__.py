"""BIDS App that segments hippocampal subfields with ensembles of ONNX networks."""

__version__ = "0.1.0"
