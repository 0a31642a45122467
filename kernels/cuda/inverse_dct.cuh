// The inverse DCT of the residual layer, for a row of a block, in integers: inverse_dct of reference.py.
//
// No sum exceeds 32 bits, in any order of summation. Coefficients and the results of a pass are within +-2^16. The
// magnitudes of a column of COSINES add up to 10822; a sum of a pass is within 2^16 * 10822 + 2^11, less than 2^30. The
// magnitudes of a column of COLOURS add up to at most 6933; a sum of colours is within 2^16 * 6933 + 2^15, less than
// 2^29, and the residual within +-6933. Right shifts are arithmetic with every supported compiler: they round down, or
// half up after half was added.
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

// The DCT in 1/4096: rows are frequencies, columns positions.
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
// The colour transform in 1/4096: rows are axes, columns R, G, B.
TABLE int16_t COLOURS[AXES][COLOUR_CHANNELS] = {{2365, 2365, 2365}, {2896, 0, -2896}, {-1672, 3344, -1672}};

// A row of a block.
struct Line {
    int32_t at[SIDE];
};

// The residual of a row of a block, in 8-bit values.
struct ResidualRow {
    Line channels[COLOUR_CHANNELS];
};

HD int32_t clamped(int32_t value, int32_t low, int32_t high) { return value < low ? low : value > high ? high : value; }

HD int32_t limited(int32_t value) { return clamped(value, -RESIDUAL_LIMIT, RESIDUAL_LIMIT); }

// Returns the result of a pass from a sum in 1/4096.
HD int32_t rounded_pass(int32_t sum) { return limited((sum + (1 << 11)) >> 12); }

// Reads eight coefficients at an address that is a multiple of 16 bytes.
HD Line line_at(const int32_t* coefficients) {
    constexpr int WORDS = 4;
    Line line = {};
    UNROLLED
    for (int access = 0; access < SIDE / WORDS; ++access) {
        const auto wide = reinterpret_cast<const Words<WORDS>*>(coefficients)[access];
        UNROLLED
        for (int i = 0; i < WORDS; ++i) line.at[access * WORDS + i] = static_cast<int32_t>(wide.words[i]);
    }
    return line;
}

// Returns a row of a block after the vertical pass. `block` are its 64 coefficients, vertical frequencies first.
HD Line vertical_pass(const int32_t* block, int row) {
    Line sums = {};
    UNROLLED
    for (int frequency = 0; frequency < SIDE; ++frequency) {
        const Line coefficients = line_at(block + frequency * SIDE);
        const int32_t factor = COSINES[frequency][row];
        UNROLLED
        for (int i = 0; i < SIDE; ++i) sums.at[i] += factor * limited(coefficients.at[i]);
    }
    UNROLLED
    for (int i = 0; i < SIDE; ++i) sums.at[i] = rounded_pass(sums.at[i]);
    return sums;
}

// Returns the row after the horizontal pass.
HD Line horizontal_pass(const Line& row) {
    Line result = {};
    UNROLLED
    for (int i = 0; i < SIDE; ++i) {
        int32_t sum = 0;
        UNROLLED
        for (int frequency = 0; frequency < SIDE; ++frequency) sum += row.at[frequency] * COSINES[frequency][i];
        result.at[i] = rounded_pass(sum);
    }
    return result;
}

// Returns the residual of a row. `block` are the coefficients of the first colour axis; the next axis is `stride` on.
HD ResidualRow residual_row_of(const int32_t* block, int64_t stride, int row) {
    ResidualRow sums = {};
    ROLLED
    for (int axis = 0; axis < AXES; ++axis) {
        const Line row_of_axis = horizontal_pass(vertical_pass(block + axis * stride, row));
        UNROLLED
        for (int channel = 0; channel < COLOUR_CHANNELS; ++channel) {
            const int32_t factor = COLOURS[axis][channel];
            UNROLLED
            for (int i = 0; i < SIDE; ++i) sums.channels[channel].at[i] += row_of_axis.at[i] * factor;
        }
    }
    UNROLLED
    for (Line& channel : sums.channels) {
        UNROLLED
        for (int32_t& sum : channel.at) sum = (sum + (1 << 15)) >> 16;
    }
    return sums;
}
