"""Kernels around the networks: quantize, dequantize, pixels, blend, step. `reference` defines them."""
