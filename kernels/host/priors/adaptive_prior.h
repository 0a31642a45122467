// The prior whose parameters are in the file: section 3.4 of docs/format.md.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "prior.h"

namespace sdtrt {

class AdaptivePrior : public Prior {
public:
    static constexpr int PARAMETERS = 3;  // of a channel: weight, base scale, first scale
    static constexpr int WEIGHTS = 9;     // weights are 0 … 8, scales 0 … 31
    static constexpr int SIGNED_LIMIT = 1023, MAGNITUDES = 256;

    // `taps`: for each pass the offsets to known neighbours. `magnitude`: the compressed magnitudes of 0 to 255.
    AdaptivePrior(std::shared_ptr<const Tables> tables, std::vector<Pass> passes, std::vector<std::vector<Offset>> taps,
                  const uint8_t* parameters, int channels, const int32_t* magnitude);

    std::unique_ptr<KnownSymbols> start(const TileParameters& tile) const override;

    std::vector<std::vector<Offset>> taps;
    std::vector<uint8_t> parameters;
    std::array<int16_t, MAGNITUDES> magnitude;
};

// Returns the parameters, (channels, PARAMETERS), with which `prior` would code symbols (channels, height, width) in
// the fewest bits, by exhaustive search. `costs`: of each bin in each row of the tables, in 1/256 bit.
std::vector<uint8_t> fit_adaptive(const AdaptivePrior& prior, const TileParameters& tile, const int16_t* symbols,
                                  const int32_t* costs);

}  // namespace sdtrt
