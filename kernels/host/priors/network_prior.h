// The prior with networks: section 3.5 of docs/format.md.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "network.h"
#include "prior.h"

namespace sdtrt {

// A pair of inputs of a network, see `NetworkPrior::uses_magnitudes`.
struct Neighbour {
    int channel, dy, dx;
};

// A prior with a trained network for each pass.
class NetworkPrior : public Prior {
public:
    // `inputs`: for each pass the pairs of inputs of its network. `magnitude`: the compressed magnitudes of 0 to
    // LATENT_LIMIT.
    NetworkPrior(std::shared_ptr<const Tables> tables, std::vector<int> order, std::vector<Pass> passes,
                 std::vector<std::vector<Neighbour>> inputs, std::vector<Network> networks, const int32_t* magnitude,
                 bool uses_magnitudes);

    std::unique_ptr<KnownSymbols> start(const TileParameters& tile) const override;

    std::vector<std::vector<Neighbour>> inputs;
    std::vector<Network> networks;
    // Whether a pair is a latent and its compressed magnitude, which are 0 together. Otherwise it is the latent and
    // that of the next channel.
    bool uses_magnitudes;
    Network largest;  // sizes only: the maximum of each over all passes
    std::array<int16_t, LATENT_LIMIT + 1> magnitude;
};

}  // namespace sdtrt
