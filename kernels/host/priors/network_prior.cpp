#include "network_prior.h"

#include <cstdlib>

#include "../simd/instruction_sets.h"

namespace sdtrt {

namespace {

// Some positions of a pass that follow each other: at most CHUNK.
struct Chunk {
    const Part* part;
    int first_row, last_row, first_column, last_column;

    int columns() const { return last_column - first_column; }
    int count() const { return (last_row - first_row) * columns(); }
    int64_t first() const { return part->first + int64_t(first_row) * part->columns + first_column; }
};

// Divides the positions of a pass. Rows longer than `block`, the positions that are computed together, are read in
// place, each by itself. Other rows are copied, as many as fit a chunk.
std::vector<Chunk> chunks_of(const Grid& grid, int block) {
    std::vector<Chunk> chunks;
    for (const Part& part : grid.parts) {
        const int rows = grid.stride == 2 && part.columns > block ? 1 : std::max(1, CHUNK / part.columns);
        for (int row = 0; row < part.rows; row += rows) {
            for (int column = 0; column < part.columns; column += CHUNK) {
                chunks.push_back(
                    {&part, row, std::min(row + rows, part.rows), column, std::min(column + CHUNK, part.columns)});
            }
        }
    }
    return chunks;
}

constexpr int SYMBOL_SHIFT = 16, FINE_SHIFT = 23;  // of `to_units`: from symbols, and from 1/64 step
constexpr int INDICES_PER_CODE = 48;
constexpr int MIDDLE_CODE = 2048;  // of the quantization step 1

// Returns a latent in quantization steps in units of a prior, rounded and clamped.
int16_t to_units(int64_t value, int64_t step, int shift) {
    const int64_t scaled = (value * step + (int64_t(1) << (shift - 1))) >> shift;
    return int16_t(clamped<int64_t>(scaled, -LATENT_LIMIT, LATENT_LIMIT));
}

// The latents known so far.
class KnownLatents : public KnownSymbols {
public:
    KnownLatents(const NetworkPrior& prior, const TileParameters& tile)
        : prior_(prior), tile_(tile), kernels_(kernels()), planes_(tile.shape, tile.edges, kernels_.block) {}

    void context(int pass, const Grid& grid, Contexts& contexts, ThreadTeam& team) override {
        const Network& network = prior_.networks[pass];
        std::vector<int32_t> bias = network.first_bias;
        for (int row = 0; row < network.units + network.outputs; ++row) {
            for (int knot = 0; knot < KNOTS; ++knot) {
                bias[row] += network.feature_weights[size_t(row) * KNOTS + knot] * tile_.features[knot];
            }
        }
        while (int(scratch_.size()) < team.size()) scratch_.emplace_back(prior_.largest, kernels_.block);
        const Pass& coding_pass = prior_.passes[pass];
        const ContextScale scale = {tile_.inverse_step, INDICES_PER_CODE * (MIDDLE_CODE - tile_.step_code),
                                    coding_pass.predicted};
        const std::vector<Chunk> chunks = chunks_of(grid, kernels_.block);
        team.for_each(int64_t(chunks.size()), [&](int64_t n, int thread) {
            const Chunk& chunk = chunks[n];
            Scratch& scratch = scratch_[thread];
            find_inputs(prior_.inputs[pass], grid.stride, chunk, scratch);
            kernels_.run(network, bias.data(), chunk.count(), scratch);
            const int channels = coding_pass.stop - coding_pass.start;
            for (int channel = 0; channel < channels; ++channel) {
                const int32_t* outputs = &scratch.outputs[int64_t(channel) * CHUNK];
                const int64_t first = channel * grid.positions + chunk.first();
                kernels_.to_contexts(scale, outputs, outputs + int64_t(channels) * CHUNK, chunk.count(),
                                     &contexts.rows[first], &contexts.bases[first],
                                     coding_pass.predicted ? &contexts.origins[first] : nullptr);
            }
        });
    }

    void put(int pass, const Grid& grid, const int32_t* symbols, const Contexts& contexts, ThreadTeam& team) override {
        const Pass& coding_pass = prior_.passes[pass];
        team.for_each(coding_pass.stop - coding_pass.start, [&](int64_t channel, int) {
            const int64_t first = channel * grid.positions;
            const int coded_channel = coding_pass.start + int(channel);
            std::vector<int16_t> units(size_t(grid.positions));
            for (int64_t n = 0; n < grid.positions; ++n) {
                const int64_t symbol = symbols[first + n];
                units[n] = coding_pass.predicted ? to_units(contexts.origins[first + n] + coding_pass.spacing * symbol,
                                                            tile_.step, FINE_SHIFT)
                                                 : to_units(symbol, tile_.step, SYMBOL_SHIFT);
            }
            planes_.put(coded_channel, grid, units.data(), &Pair::first);
            if (!prior_.uses_magnitudes) {
                if (coded_channel) planes_.put(coded_channel - 1, grid, units.data(), &Pair::second);
                return;
            }
            for (int16_t& unit : units) unit = prior_.magnitude[std::abs(unit)];
            planes_.put(coded_channel, grid, units.data(), &Pair::second);
        });
    }

private:
    // Finds the inputs of a chunk's positions. They are copied, unless they follow each other in the planes.
    void find_inputs(const std::vector<Neighbour>& inputs, int stride, const Chunk& chunk, Scratch& scratch) const {
        const int step = stride / 2, columns = chunk.columns(), x = chunk.part->x + chunk.first_column * stride;
        for (size_t n = 0; n < inputs.size(); ++n) {
            const Neighbour& input = inputs[n];
            const auto start_of = [&](int row) {
                return planes_.at(input.channel, chunk.part->y + row * stride + input.dy, x + input.dx);
            };
            if (step == 1 && chunk.last_row == chunk.first_row + 1) {
                scratch.input_starts[n] = start_of(chunk.first_row);
                continue;
            }
            Pair* target = &scratch.inputs[n * CHUNK];
            scratch.input_starts[n] = target;
            for (int row = chunk.first_row; row < chunk.last_row; ++row, target += columns) {
                const Pair* source = start_of(row);
                for (int column = 0; column < columns; ++column) target[column] = source[int64_t(column) * step];
            }
            std::fill(target, target + (-chunk.count() & (kernels_.block - 1)), Pair{});
        }
    }

    const NetworkPrior& prior_;
    TileParameters tile_;
    const Kernels& kernels_;
    PaddedPlanes planes_;
    std::vector<Scratch> scratch_;  // one for each thread
};

}  // namespace

NetworkPrior::NetworkPrior(std::shared_ptr<const Tables> tables_, std::vector<int> order_, std::vector<Pass> passes_,
                           std::vector<std::vector<Neighbour>> inputs_, std::vector<Network> networks_,
                           const int32_t* magnitude_, bool uses_magnitudes_)
    : inputs(std::move(inputs_)), networks(std::move(networks_)), uses_magnitudes(uses_magnitudes_) {
    tables = std::move(tables_);
    order = std::move(order_);
    passes = std::move(passes_);
    check();
    if (networks.size() != passes.size() || inputs.size() != passes.size()) throw std::invalid_argument("networks");
    for (size_t n = 0; n < magnitude.size(); ++n) {
        if (magnitude_[n] < 0 || magnitude_[n] > LATENT_LIMIT) throw std::invalid_argument("magnitude");
        magnitude[n] = int16_t(magnitude_[n]);
    }
    for (size_t n = 0; n < passes.size(); ++n) {
        for (const Neighbour& input : inputs[n]) {
            check_window({input.channel, input.channel + 1, input.dy, input.dx}, int(order.size()));
        }
        const Network& network = networks[n];
        if (inputs[n].size() > UINT16_MAX) throw std::invalid_argument("inputs of a network");
        if (int(inputs[n].size()) != network.first.pairs || network.outputs != 2 * (passes[n].stop - passes[n].start)) {
            throw std::invalid_argument("size of a network");
        }
        largest.outputs = std::max(largest.outputs, network.outputs);
        for (auto member : {&Network::first, &Network::second, &Network::output}) {
            Layer& layer = largest.*member;
            layer.pairs = std::max(layer.pairs, (network.*member).pairs);
            layer.padded_rows = std::max(layer.padded_rows, (network.*member).padded_rows);
        }
    }
}

std::unique_ptr<KnownSymbols> NetworkPrior::start(const TileParameters& tile) const {
    return std::make_unique<KnownLatents>(*this, tile);
}

}  // namespace sdtrt
