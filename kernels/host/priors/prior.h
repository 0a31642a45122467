// Priors: they give the context of each symbol of a pass from the symbols of earlier passes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "../ans.h"
#include "../thread_team.h"
#include "planes.h"

namespace sdtrt {

constexpr int OFFSET_UNITS = 64;         // of a reconstruction offset in a quantization step
constexpr int SUBSYMBOL_STEPS = 8;       // of a location in a symbol
constexpr int LOCATION_LIMIT = 1 << 15;  // of the magnitude of locations
constexpr int NUM_SCALES = 32;
constexpr int INDEX_SHIFT = 12;  // an output of a network of 2^12 is one scale index
constexpr int32_t ORIGIN_LIMIT = OFFSET_UNITS * (LOCATION_LIMIT / SUBSYMBOL_STEPS);
constexpr int KNOTS = 17;                              // of the step embedding
constexpr int TILE_SIDE_LIMIT = 1 << 24;               // latents: more than a file can have
constexpr int64_t TILE_SIZE_LIMIT = int64_t(1) << 32;  // an index within a pass has 32 bits

// A pass over channels `start` to before `stop`, in coding order.
struct Pass {
    int start, stop, stride;
    std::vector<Offset> offsets;
    bool predicted;
    int spacing;  // of reconstruction levels, in 1/64 step
};

// Channels `first` to before `last` of the neighbours at an offset.
struct Window {
    int first, last, dy, dx;
};

// The context of each symbol of a pass, (channels of the pass, positions).
struct Contexts {
    std::vector<uint16_t> rows;    // of the tables
    std::vector<int32_t> bases;    // locations rounded down to symbols; 0 in a predicted pass
    std::vector<int32_t> origins;  // in a predicted pass: the predicted latents in 1/64 step

    // Returns the location of a symbol, rounded to a symbol, half up.
    int mode(int64_t n) const { return bases[n] + (rows[n] % SUBSYMBOL_STEPS >= SUBSYMBOL_STEPS / 2); }
};

// The parameters of a tile.
struct TileParameters {
    Shape shape;
    InnerEdges edges;
    int step_code;
    int64_t step, inverse_step;           // the quantization step times 2^22, and its inverse
    std::array<int32_t, KNOTS> features;  // the step embedding
};

// The symbols of a tile that are known so far, in the form that a prior needs.
class KnownSymbols {
public:
    virtual ~KnownSymbols() = default;

    // Computes the context of each symbol of a pass.
    virtual void context(int pass, const Grid& grid, Contexts& contexts, ThreadTeam& team) = 0;

    // Stores the symbols of a pass, (channels of the pass, positions). `contexts` are those of the pass.
    virtual void put(int pass, const Grid& grid, const int32_t* symbols, const Contexts& contexts,
                     ThreadTeam& team) = 0;
};

class Prior {
public:
    virtual ~Prior() = default;
    virtual std::unique_ptr<KnownSymbols> start(const TileParameters& tile) const = 0;

    std::shared_ptr<const Tables> tables;
    std::vector<int> order;  // the channels in coding order
    std::vector<Pass> passes;

protected:
    // Throws `std::invalid_argument` unless channels, passes and tables are such that every index is valid.
    void check() const;
};

// Throws `std::invalid_argument` unless an offset lies within the margin of planes, and the channels exist.
void check_window(const Window& window, int channels);

}  // namespace sdtrt
