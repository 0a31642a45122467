// Rate-distortion optimised quantization of a pass, with the same bits as rdoq.py: every operation is rounded by
// itself, in single precision. That needs -ffp-contract=off, and no fast math.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "priors/prior.h"

namespace sdtrt {

constexpr float LAMBDA_FOR_MORE_CANDIDATES = 0.75f;  // above it more than the two nearest symbols are tried
constexpr float LARGEST_SYMBOL = 32766.0f;

// Returns a value within +-LARGEST_SYMBOL, and a number for NaN, so that every conversion to an integer is defined.
inline float saturated(float value) {
    return value > -LARGEST_SYMBOL ? std::min(value, LARGEST_SYMBOL) : -LARGEST_SYMBOL;
}

// Returns a latent in units of symbols, from one in quantization steps.
inline float to_symbol_units(const Pass& pass, const Contexts& contexts, int64_t n, float scaled) {
    if (!pass.predicted) return saturated(scaled);
    const float relative = scaled - float(contexts.origins[n]) * (1.0f / OFFSET_UNITS);
    return saturated(relative * float(double(OFFSET_UNITS) / pass.spacing));
}

struct Candidate {
    float error, bits;
};

inline Candidate candidate(const Tables& tables, int row, int base, int symbol, float error) {
    const int bin = tables.bin_of(row, symbol - base);
    if (tables.has_centroids()) error -= float(tables.centroid(row, bin)) * (1.0f / OFFSET_UNITS);
    return {error, tables.cost(row, bin)};
}

// Returns the cheaper of the two symbols next to a latent.
inline int cheaper_neighbour(const Tables& tables, int row, int base, float target, float lambda) {
    const float floor = std::floor(target);
    const int symbol = int(floor);
    const float lower_distance = target - floor;
    const Candidate lower = candidate(tables, row, base, symbol, lower_distance);
    const Candidate upper = candidate(tables, row, base, symbol + 1, lower_distance - 1.0f);
    const float rate_delta = lower.bits - upper.bits;
    const float error_delta = lower.error * lower.error - upper.error * upper.error;
    return symbol + (error_delta + lambda * rate_delta > 0);
}

// Returns D + lambda R of a symbol.
inline float cost_of(const Tables& tables, int row, int base, int symbol, float target, float lambda) {
    const Candidate chosen = candidate(tables, row, base, symbol, target - float(symbol));
    return chosen.error * chosen.error + lambda * chosen.bits;
}

// Returns the cheapest of some symbols between the mode of the distribution and the latent.
inline int cheapest_towards_mode(const Tables& tables, int row, int base, int mode, int nearest, float target,
                                 float lambda) {
    const int sign = (mode > nearest) - (mode < nearest);
    int best = nearest;
    float least = cost_of(tables, row, base, nearest, target, lambda);
    for (int symbol : {nearest + sign, (nearest + mode) >> 1, mode}) {
        const float cost = cost_of(tables, row, base, symbol, target, lambda);
        if (cost < least) {
            best = symbol;
            least = cost;
        }
    }
    return best;
}

}  // namespace sdtrt
