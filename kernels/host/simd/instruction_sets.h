// Code for several sets of processor instructions, of which one is chosen at run time: one build serves all processors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../priors/network.h"

namespace sdtrt {

// The code for one set of processor instructions.
struct Kernels {
    const char* name;
    int block;  // positions that are computed together

    // Computes the outputs of `count` positions, (outputs, CHUNK), from the inputs at `scratch.input_starts`. Inputs
    // are read in whole blocks: planes have slack, and copies are filled up. `bias`: of the first layer, (padded
    // rows,), with the step features.
    void (*run)(const Network& network, const int32_t* bias, int count, Scratch& scratch);

    // Turns the outputs of a network into the contexts of `count` symbols. `origins` are for predicted passes.
    void (*to_contexts)(const ContextScale& scale, const int32_t* location_outputs, const int32_t* scale_outputs,
                        int count, uint16_t* rows, int32_t* bases, int32_t* origins);

    // Converts a row of `count` pixels from three planes: (value - shift) * scale, rounded half to even and limited to
    // 0 … 255; NaN becomes 0.
    void (*planes_to_pixels)(const float* const* planes, int count, float shift, float scale, uint8_t* pixels);

    // Computes the residual of a row of `blocks` blocks, (8, 8 * blocks, 3), from the coefficients of three colour
    // axes, (blocks, 64) each.
    void (*inverse_dct)(const int32_t* const* coefficients, int blocks, int16_t* residual);
};

// Returns the sets that this processor has, from the slowest to the fastest.
const std::vector<const Kernels*>& available_kernels();

// Returns the set in use: the fastest, unless `use_kernels` chose another.
const Kernels& kernels();

// Chooses a set by its name; false if this processor does not have it.
bool use_kernels(const std::string& name);

}  // namespace sdtrt
