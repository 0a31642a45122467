"""torch modules -> ONNX files in single and half precision, compared with torch."""
