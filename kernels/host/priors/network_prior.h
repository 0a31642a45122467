// The prior with networks: section 3.5 of docs/format.md.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "network.h"
#include "prior.h"

namespace sdtrt {

// A pair of inputs of a network: a latent and its compressed magnitude.
struct Neighbour {
    int channel, dy, dx;
};

// A prior with a trained network for each pass.
class NetworkPrior : public Prior {
public:
    // `inputs`: for each pass the inputs of its network, a pair for each. `magnitude`: the compressed magnitudes of 0 to
    // LATENT_LIMIT.
    NetworkPrior(std::shared_ptr<const Tables> tables, std::vector<int> order, std::vector<Pass> passes,
                 std::vector<std::vector<Neighbour>> inputs, std::vector<Network> networks, const int32_t* magnitude);

    std::unique_ptr<KnownSymbols> start(const TileParameters& tile) const override;

    std::vector<std::vector<Neighbour>> inputs;
    std::vector<Network> networks;
    Network largest;  // sizes only: the maximum of each over all passes
    std::array<int16_t, LATENT_LIMIT + 1> magnitude;
};

}  // namespace sdtrt
