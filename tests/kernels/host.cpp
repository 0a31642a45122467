// The kernels as plain C++, for tests: each is a function that does what a grid of blocks does on a device.
#include "kernels.cu"

extern "C" {

int32_t block_size = BLOCK;

void set_grid(int64_t blocks) { grid_on_host = blocks; }

void half_from_float(const float* from, uint16_t* to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = from_float<Half>(from[i]).bits;
}

void float_from_half(const uint16_t* from, float* to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = to_float(Half{from[i]});
}
}
