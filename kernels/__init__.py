"""Kernels around the networks: quantize, dequantize, pixels. `reference` defines them."""
