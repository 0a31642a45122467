// The residual layer: section 3.7 of docs/format.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ans.h"
#include "symbols.h"

namespace sdtrt {

constexpr int COLOUR_AXES = 3, BANDS = 64, NUM_GROUPS = 8, NUM_FEATURES = 12, BLOCK_SIDE = 8;
constexpr int NUM_SCORE_BINS = 24, NUM_LAST_GROUPS = NUM_GROUPS + 1;
constexpr int LAST_GROUP_ROWS = COLOUR_AXES * 3 * NUM_LAST_GROUPS * NUM_LAST_GROUPS;
constexpr int RESIDUAL_ROWS = LAST_GROUP_ROWS + COLOUR_AXES * NUM_GROUPS * NUM_SCORE_BINS;
constexpr int COMPRESSED = 256;  // magnitudes that have a compressed value

// The trained parameters of the layer.
struct ResidualModel {
    std::shared_ptr<const Tables> tables;
    std::vector<int32_t> weights;    // (COLOUR_AXES, NUM_GROUPS, 2, NUM_FEATURES), of the features in a score
    std::vector<int32_t> offsets;    // (COLOUR_AXES, 2, BANDS), the constant term of a score
    std::vector<int32_t> magnitude;  // compressed, of 0 to COMPRESSED - 1
    std::vector<int32_t> matrix;     // (COLOUR_AXES, BANDS), steps relative to the layer's, in 1/32
    std::vector<int32_t> zigzag;     // (BANDS,), raster indices of a block's bands

    // Throws `std::invalid_argument` if the sizes or values are not those of the format.
    void check() const;
};

// Decodes the coefficients of rows x columns blocks, (COLOUR_AXES, blocks, 64), in 1/16 of an 8-bit value; they are 0
// before. Damage of a last group stores its value in `last_group`.
Damage decode_residual(const ResidualModel& model, const uint32_t* words, size_t num_words, int rows, int columns,
                       int residual_step, int32_t* coefficients, int* last_group);

// Chooses the number of coded groups of each block, (COLOUR_AXES, blocks), of the lowest estimated cost D + lambda R.
// `bits`: the estimated bits of symbols 0 to `num_bits` - 1; larger ones count as the last. `block_bits`: more bits of
// a block that has symbols. The other arguments are those of `encode_residual`.
void choose_last_groups(const double* target, const float* lambdas, int64_t blocks, const float* bits, int num_bits,
                        float block_bits, int32_t* last_groups);

// Chooses symbols by RDOQ and encodes them. `target`: (COLOUR_AXES, BANDS, blocks), coefficients in units of their
// steps. `lambdas`: (blocks,), squared steps per bit. `last_groups`: (COLOUR_AXES, blocks). Empty if the cost D +
// lambda R without a residual is lower.
std::string encode_residual(const ResidualModel& model, const double* target, const float* lambdas,
                            const int32_t* last_groups, int rows, int columns);

// Computes the residual, (8 * rows, 8 * columns, 3), of coefficients (COLOUR_AXES, rows * columns, 64).
void inverse_dct(const int32_t* coefficients, int rows, int columns, int16_t* residual);

// Adds a residual to pixels, and limits the sums to 0 … 255. Both are (rows, columns, 3 or more for pixels), with
// `stride` values from one row to the next.
void add_residual(uint8_t* pixels, int64_t stride, int channels, const int16_t* residual, int64_t residual_stride,
                  int rows, int columns);

}  // namespace sdtrt
