"""ONNX decoders -> how wrong their pictures are, and how latents could mend that, as ONNX files."""
