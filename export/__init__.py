"""The bridge: a checkpoint goes in, a bundle of ONNX models comes out."""
