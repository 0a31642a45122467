"""The kernels: quantize, dequantize, pixels, blend, ddim_step, residual, overlay.

`reference` defines them in NumPy; `cuda/` has the CUDA sources, and `launches` the arguments of a launch.
"""

SYMBOL_LIMIT = 32767  # symbols are int16
