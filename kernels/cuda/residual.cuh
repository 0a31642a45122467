// The residual's transform back, from values to levels, in integers: reference.py's add_residual, for a row of a block.
//
// No sum is beyond 32 bits, in whatever order it is made. Values, and what a pass leaves, are within +-2^16. The
// magnitudes of each column of COSINES add up to 10822, so that sums of a pass are within 2^16 * 10822 + 2^11, less
// than 2^30; those of each column of COLOURS to 6933 at most, so that sums of colours are within 2^16 * 6933 + 2^15,
// less than 2^29, and levels within +-6933. Shifts to the right are arithmetic, as every compiler in question has them:
// they round down and, where half was added before, half up.
#pragma once

#include "groups.cuh"

constexpr int SIDE = 8;  // pixels, of a block
constexpr int AXES = 3, COLOUR_CHANNELS = 3;
constexpr int32_t RESIDUAL_LIMIT = 1 << 16;

#ifdef __CUDACC__
#define TABLE static __device__ const
#else
#define TABLE static const
#endif

// Waves in 1/4096: rows are frequencies, columns positions.
TABLE int16_t COSINES[SIDE][SIDE] = {
    {1448, 1448, 1448, 1448, 1448, 1448, 1448, 1448},
    {2009, 1703, 1138, 400, -400, -1138, -1703, -2009},
    {1892, 784, -784, -1892, -1892, -784, 784, 1892},
    {1703, -400, -2009, -1138, 1138, 2009, 400, -1703},
    {1448, -1448, -1448, 1448, 1448, -1448, -1448, 1448},
    {1138, -2009, 400, 1703, -1703, -400, 2009, -1138},
    {784, -1892, 1892, -784, -784, 1892, -1892, 784},
    {400, -1138, 1703, -2009, 2009, -1703, 1138, -400},
};
// Axes of colour over channels, in 1/4096.
TABLE int16_t COLOURS[AXES][COLOUR_CHANNELS] = {{2365, 2365, 2365}, {2896, 0, -2896}, {-1672, 3344, -1672}};

// A row of a block.
struct Line {
    int32_t at[SIDE];
};

// What is added to a row of a block, in levels.
struct Levels {
    Line channels[COLOUR_CHANNELS];
};

HD int32_t clamped(int32_t value, int32_t low, int32_t high) { return value < low ? low : value > high ? high : value; }

HD int32_t limited(int32_t value) { return clamped(value, -RESIDUAL_LIMIT, RESIDUAL_LIMIT); }

// What a pass leaves of a sum in 1/4096.
HD int32_t pass_of(int32_t sum) { return limited((sum + (1 << 11)) >> 12); }

// Reads eight values, which are aligned to 16 bytes.
HD Line line_at(const int32_t* values) {
    constexpr int WORDS = 4;
    Line line = {};
    UNROLLED
    for (int access = 0; access < SIDE / WORDS; ++access) {
        const auto wide = reinterpret_cast<const Words<WORDS>*>(values)[access];
        UNROLLED
        for (int i = 0; i < WORDS; ++i) line.at[access * WORDS + i] = static_cast<int32_t>(wide.words[i]);
    }
    return line;
}

// A row of a block, turned back vertically. `block` are its 64 values, vertical frequencies first.
HD Line vertical_pass(const int32_t* block, int row) {
    Line sums = {};
    UNROLLED
    for (int frequency = 0; frequency < SIDE; ++frequency) {
        const Line values = line_at(block + frequency * SIDE);
        const int32_t factor = COSINES[frequency][row];
        UNROLLED
        for (int i = 0; i < SIDE; ++i) sums.at[i] += factor * limited(values.at[i]);
    }
    UNROLLED
    for (int i = 0; i < SIDE; ++i) sums.at[i] = pass_of(sums.at[i]);
    return sums;
}

// The same row, turned back horizontally.
HD Line horizontal_pass(const Line& row) {
    Line turned = {};
    UNROLLED
    for (int i = 0; i < SIDE; ++i) {
        int32_t sum = 0;
        UNROLLED
        for (int frequency = 0; frequency < SIDE; ++frequency) sum += row.at[frequency] * COSINES[frequency][i];
        turned.at[i] = pass_of(sum);
    }
    return turned;
}

// `block` are the values of a block's first axis of colour; those of the next are `stride` further on.
HD Levels levels_of(const int32_t* block, int64_t stride, int row) {
    Levels sums = {};
    ROLLED
    for (int axis = 0; axis < AXES; ++axis) {
        const Line turned = horizontal_pass(vertical_pass(block + axis * stride, row));
        UNROLLED
        for (int channel = 0; channel < COLOUR_CHANNELS; ++channel) {
            const int32_t factor = COLOURS[axis][channel];
            UNROLLED
            for (int i = 0; i < SIDE; ++i) sums.channels[channel].at[i] += turned.at[i] * factor;
        }
    }
    UNROLLED
    for (Line& channel : sums.channels) {
        UNROLLED
        for (int32_t& sum : channel.at) sum = (sum + (1 << 15)) >> 16;
    }
    return sums;
}
