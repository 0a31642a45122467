"""ONNX decoders -> how wrong their images are, and how latents could mend that, as ONNX files."""
