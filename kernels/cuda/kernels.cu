// All kernels, as they are compiled: one translation unit, one fatbin.
#include "blend.cu"
#include "dequantize.cu"
#include "overlay.cu"
#include "pixels.cu"
#include "quantize.cu"
#include "residual.cu"
#include "step.cu"
