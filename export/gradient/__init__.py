"""ONNX decoders -> ONNX networks that compute the image's distortion and its gradient with respect to the latents."""
