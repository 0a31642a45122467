#include "adaptive_prior.h"

#include <algorithm>
#include <cstdlib>

namespace sdtrt {

namespace {

// Returns floor(value / divisor) for a positive divisor.
int floor_divide(int value, int divisor) {
    const int quotient = value / divisor;
    return quotient - (value % divisor < 0);
}

// Means over the known neighbours of each position of a pass in one channel, in 1/8: of the nearest symbols, and of all
// magnitudes.
struct NeighbourMeans {
    std::vector<int32_t> mean, magnitude;
};

class KnownNeighbours : public KnownSymbols {
public:
    KnownNeighbours(const AdaptivePrior& prior, const TileParameters& tile)
        : prior_(prior), planes_(tile.shape, tile.edges) {}

    void context(int pass, const Grid& grid, Contexts& contexts, ThreadTeam& team) override {
        const Pass& coding_pass = prior_.passes[pass];
        team.for_each(coding_pass.stop - coding_pass.start, [&](int64_t channel, int) {
            const uint8_t* parameters = &prior_.parameters[channel * AdaptivePrior::PARAMETERS];
            uint16_t* rows = &contexts.rows[channel * grid.positions];
            int32_t* bases = &contexts.bases[channel * grid.positions];
            if (prior_.taps[pass].empty()) {
                std::fill(rows, rows + grid.positions, uint16_t(parameters[2] * SUBSYMBOL_STEPS));
                std::fill(bases, bases + grid.positions, 0);
                return;
            }
            NeighbourMeans means;
            neighbour_means(pass, grid, int(channel), means);
            for (int64_t n = 0; n < grid.positions; ++n) {
                const int location = (means.mean[n] * parameters[0]) >> 3;
                const int scale = std::min(parameters[1] + ((means.magnitude[n] * 3) >> 7), NUM_SCALES - 1);
                rows[n] = uint16_t(scale * SUBSYMBOL_STEPS + (location & (SUBSYMBOL_STEPS - 1)));
                bases[n] = location >> 3;  // SUBSYMBOL_STEPS is 2^3
            }
        });
    }

    void put(int pass, const Grid& grid, const int32_t* symbols, const Contexts&, ThreadTeam& team) override {
        const Pass& coding_pass = prior_.passes[pass];
        team.for_each(coding_pass.stop - coding_pass.start, [&](int64_t channel, int) {
            put_channel(int(channel), grid, symbols + channel * grid.positions);
        });
    }

    void put_channel(int channel, const Grid& grid, const int32_t* symbols) {
        constexpr int LIMIT = AdaptivePrior::SIGNED_LIMIT;
        std::vector<int16_t> values(size_t(grid.positions));
        for (int64_t n = 0; n < grid.positions; ++n) values[n] = int16_t(clamped(symbols[n], -LIMIT, LIMIT));
        planes_.put(channel, grid, values.data(), &Pair::first);
        for (int64_t n = 0; n < grid.positions; ++n) {
            values[n] =
                prior_.magnitude[std::min(std::abs(clamped(symbols[n], -LIMIT, LIMIT)), AdaptivePrior::MAGNITUDES - 1)];
        }
        planes_.put(channel, grid, values.data(), &Pair::second);
    }

    // Computes two means in 1/8: of the symbols at the nearest taps, and of the magnitudes at all taps. The nearest
    // count twice.
    void neighbour_means(int pass, const Grid& grid, int channel, NeighbourMeans& means) const {
        const std::vector<Offset>& taps = prior_.taps[pass];
        int least = 2 * MARGIN;
        for (const Offset& tap : taps) least = std::min(least, std::abs(tap.y) + std::abs(tap.x));
        int num_nearest = 0;
        for (const Offset& tap : taps) num_nearest += std::abs(tap.y) + std::abs(tap.x) == least;
        const int weights = int(taps.size()) + num_nearest, step = grid.stride / 2;
        means.mean.assign(size_t(grid.positions), 0);
        means.magnitude.assign(size_t(grid.positions), 0);
        for (const Offset& tap : taps) {
            const bool is_nearest = std::abs(tap.y) + std::abs(tap.x) == least;
            for (const Part& part : grid.parts) {
                for (int row = 0; row < part.rows; ++row) {
                    const int y = part.y + row * grid.stride + tap.y, x = part.x + tap.x;
                    const Pair* pairs = planes_.at(channel, y, x);
                    int32_t* mean = &means.mean[part.first + int64_t(row) * part.columns];
                    int32_t* magnitude = &means.magnitude[part.first + int64_t(row) * part.columns];
                    for (int n = 0; n < part.columns; ++n) {
                        mean[n] += is_nearest * pairs[int64_t(n) * step].first;
                        magnitude[n] += (1 + is_nearest) * pairs[int64_t(n) * step].second;
                    }
                }
            }
        }
        for (int32_t& mean : means.mean) mean = floor_divide(mean * 8 + num_nearest / 2, num_nearest);
        for (int32_t& magnitude : means.magnitude) magnitude = magnitude * 8 / weights;
    }

private:
    const AdaptivePrior& prior_;
    PaddedPlanes planes_;  // of symbols and their compressed magnitudes
};

// The bits of symbols, by the parameters that they depend on, for one channel.
class CostsOfParameters {
public:
    CostsOfParameters(const Tables& tables, const int32_t* costs)
        : tables_(tables), costs_(costs), near_(SUBSYMBOL_STEPS * 2 * NEAR) {
        for (int fraction = 0; fraction < SUBSYMBOL_STEPS; ++fraction) {
            for (int difference = -NEAR; difference < NEAR; ++difference) {
                add_costs(fraction, difference, near_[near_index(fraction, difference)].data());
            }
        }
    }

    // Forgets all symbols.
    void clear() {
        first_ = {};
        later_ = {};
    }

    void add_first(int symbol) { add(0, symbol, first_.data()); }

    void add_later(int symbol, int mean, int magnitude) {
        const int more = (magnitude * 3) >> 7;
        for (int weight = 0; weight < AdaptivePrior::WEIGHTS; ++weight) {
            const int location = (mean * weight) >> 3;
            add(location & (SUBSYMBOL_STEPS - 1), symbol - (location >> 3), later_[weight][more].data());
        }
    }

    // Writes the parameters of the fewest bits: of equals the first.
    void best(uint8_t* parameters) const {
        int64_t least = -1;
        for (int weight = 0; weight < AdaptivePrior::WEIGHTS; ++weight) {
            for (int scale = 0; scale < NUM_SCALES; ++scale) {
                int64_t bits = 0;
                for (int more = 0; more < STEPS; ++more)
                    bits += later_[weight][more][std::min(scale + more, NUM_SCALES - 1)];
                if (least < 0 || bits < least) {
                    least = bits;
                    parameters[0] = uint8_t(weight);
                    parameters[1] = uint8_t(scale);
                }
            }
        }
        parameters[2] = uint8_t(std::min_element(first_.begin(), first_.end()) - first_.begin());
    }

private:
    using ByScale = std::array<int64_t, NUM_SCALES>;
    static constexpr int NEAR = 32;   // differences for which the costs are tabulated
    static constexpr int STEPS = 24;  // magnitudes add 0 … 23 to a scale

    void add_costs(int fraction, int difference, int64_t* sums) const {
        for (int scale = 0; scale < NUM_SCALES; ++scale) {
            const int row = scale * SUBSYMBOL_STEPS + fraction;
            sums[scale] += costs_[row * tables_.bins() + tables_.bin_of(row, difference)];
        }
    }

    void add(int fraction, int difference, int64_t* sums) const {
        if (difference < -NEAR || difference >= NEAR) {
            add_costs(fraction, difference, sums);
            return;
        }
        const ByScale& costs = near_[near_index(fraction, difference)];
        for (int scale = 0; scale < NUM_SCALES; ++scale) sums[scale] += costs[scale];
    }

    static size_t near_index(int fraction, int difference) { return size_t(fraction * 2 * NEAR + difference + NEAR); }

    const Tables& tables_;
    const int32_t* costs_;
    std::vector<ByScale> near_;
    ByScale first_{};
    std::array<std::array<ByScale, STEPS>, AdaptivePrior::WEIGHTS> later_{};
};

}  // namespace

AdaptivePrior::AdaptivePrior(std::shared_ptr<const Tables> tables_, std::vector<Pass> passes_,
                             std::vector<std::vector<Offset>> taps_, const uint8_t* parameters_, int channels,
                             const int32_t* magnitude_)
    : taps(std::move(taps_)), parameters(parameters_, parameters_ + size_t(channels) * PARAMETERS) {
    tables = std::move(tables_);
    passes = std::move(passes_);
    for (int channel = 0; channel < channels; ++channel) order.push_back(channel);
    check();
    if (taps.size() != passes.size()) throw std::invalid_argument("number of taps");
    for (const auto& of_pass : taps) {
        for (const Offset& tap : of_pass) check_window({0, 1, tap.y, tap.x}, channels);
    }
    for (const Pass& pass : passes) {
        if (pass.start != 0 || pass.stop != channels || pass.predicted) throw std::invalid_argument("pass");
    }
    for (int channel = 0; channel < channels; ++channel) {
        const uint8_t* of_channel = &parameters[size_t(channel) * PARAMETERS];
        if (of_channel[0] > 8 || of_channel[1] >= NUM_SCALES || of_channel[2] >= NUM_SCALES) {
            throw std::invalid_argument("parameters");
        }
    }
    for (size_t n = 0; n < magnitude.size(); ++n) {
        if (magnitude_[n] < 0 || magnitude_[n] > 127) throw std::invalid_argument("magnitude");
        magnitude[n] = int16_t(magnitude_[n]);
    }
}

std::unique_ptr<KnownSymbols> AdaptivePrior::start(const TileParameters& tile) const {
    return std::make_unique<KnownNeighbours>(*this, tile);
}

std::vector<uint8_t> fit_adaptive(const AdaptivePrior& prior, const TileParameters& tile, const int16_t* symbols,
                                  const int32_t* costs) {
    const int channels = tile.shape.channels;
    std::vector<uint8_t> parameters(size_t(channels) * AdaptivePrior::PARAMETERS);
    KnownNeighbours known(prior, tile);
    CostsOfParameters sums(*prior.tables, costs);
    std::vector<int32_t> values;
    NeighbourMeans means;
    for (int channel = 0; channel < channels; ++channel) {
        sums.clear();
        for (size_t pass = 0; pass < prior.passes.size(); ++pass) {
            const Grid grid(prior.passes[pass].stride, prior.passes[pass].offsets, tile.shape);
            if (!grid.positions) continue;
            values.clear();
            for (const Part& part : grid.parts) {
                for (int row = 0; row < part.rows; ++row) {
                    const int64_t y = part.y + int64_t(row) * grid.stride;
                    const int16_t* source = symbols + (channel * tile.shape.height + y) * tile.shape.width + part.x;
                    for (int column = 0; column < part.columns; ++column) {
                        values.push_back(source[int64_t(column) * grid.stride]);
                    }
                }
            }
            if (prior.taps[pass].empty()) {
                for (const int32_t value : values) sums.add_first(value);
            } else {
                known.neighbour_means(int(pass), grid, channel, means);
                for (size_t n = 0; n < values.size(); ++n) sums.add_later(values[n], means.mean[n], means.magnitude[n]);
            }
            known.put_channel(channel, grid, values.data());
        }
        sums.best(&parameters[size_t(channel) * AdaptivePrior::PARAMETERS]);
    }
    return parameters;
}

}  // namespace sdtrt
