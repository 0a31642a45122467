// Priors from the plain arrays that Python has of them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "adaptive_prior.h"
#include "network_prior.h"

namespace sdtrt {

// The arrays of a network. No partial sum of its products may reach 2^24 in magnitude.
struct NetworkArrays {
    std::vector<int16_t> first;        // (units + outputs, inputs + KNOTS)
    std::vector<int32_t> first_bias;   // (units + outputs,)
    std::vector<int16_t> second;       // (second units, units)
    std::vector<int32_t> second_bias;  // (second units,)
    std::vector<int16_t> output;       // (outputs, second units)
};

// The numbers of a pass: first and last channel, stride, whether it is predicted, and spacing. Lists follow, each after
// its length: the offsets, and the inputs or taps.
using PassNumbers = std::vector<int32_t>;

// The functions below throw `std::invalid_argument` if an index or a size is out of range. `magnitude` is as for the
// constructors.

// The lists of a pass are its offsets, the windows of latents and those of magnitudes.
std::shared_ptr<NetworkPrior> make_network_prior(std::shared_ptr<const Tables> tables, std::vector<int> order,
                                                 const std::vector<PassNumbers>& passes,
                                                 const std::vector<NetworkArrays>& networks, const int32_t* magnitude);

// The lists of a pass are its offsets and its taps. `parameters`: (channels, AdaptivePrior::PARAMETERS).
std::shared_ptr<AdaptivePrior> make_adaptive_prior(std::shared_ptr<const Tables> tables,
                                                   const std::vector<PassNumbers>& passes,
                                                   const std::vector<uint8_t>& parameters, const int32_t* magnitude);

}  // namespace sdtrt
