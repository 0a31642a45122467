"""Kernels: quantize, dequantize, pixels, blend, step, residual, overlay. `reference` defines them; `cuda` has CUDA."""
