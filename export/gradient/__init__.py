"""ONNX decoders -> ONNX networks that compute a distortion of the image and its gradient with respect to the latents."""
