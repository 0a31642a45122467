// All kernels. They are compiled as one translation unit to one fatbin.
#include "blend.cu"
#include "ddim_step.cu"
#include "dequantize.cu"
#include "overlay.cu"
#include "pixels.cu"
#include "quantize.cu"
#include "residual.cu"
