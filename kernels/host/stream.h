// The stream of a tile, pass by pass: sections 3.2 to 3.5 of docs/format.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "priors/prior.h"
#include "symbols.h"

namespace sdtrt {

// Which part of a stream is decoded, and what is checked.
struct ReadRules {
    int end;                                // number of the first pass that is not decoded
    std::vector<int> cuts;                  // number of passes up to the end of each level but the last
    std::vector<int64_t> words_after_cuts;  // words behind the end of each of these levels; empty if there are none
    bool salvages;                          // whether damage ends the reading, instead of being reported
    int complete_passes;                    // if it salvages: passes that are known to be complete
    bool is_unreadable;                     // if it salvages: whether nothing can be read at all
};

struct ReadResult {
    Damage damage = Damage::NONE;
    int announced = 0;  // number of passes that the stream announces
    int passes_read = 0, passes_missing = 0;
    bool is_at_end = false;
    bool is_exhausted = false;       // whether a truncated stream may have ended before the end of what was read
    bool was_exhausted = false;      // the same, before the pass that was read last
    bool last_pass_is_zero = false;  // whether the pass that was read last has zeros alone
};

// Decodes a stream. `symbols` and `offsets`, (channels, height, width), are 0 before; `offsets` may be null.
ReadResult decode_stream(const Prior& prior, const TileParameters& tile, const uint32_t* words, size_t num_words,
                         const ReadRules& rules, int threads, int16_t* symbols, int32_t* offsets);

// How symbols are chosen: `symbols` if they are given, otherwise RDOQ for the latents `scaled` in quantization steps.
struct SymbolSource {
    const int16_t* symbols;   // (channels, height, width), or null
    const float* scaled;      // likewise
    float lambda;             // squared symbol distances per bit
    const float* lambda_map;  // (height, width), in place of `lambda` if not null
};

struct EncodedStream {
    std::string data;
    std::vector<int64_t> words_after_cuts;
};

// Encodes the first `count` passes that have positions, without the last ones that hold zeros alone.
EncodedStream encode_stream(const Prior& prior, const TileParameters& tile, const SymbolSource& source, int count,
                            const std::vector<int>& cuts, int threads);

// Chooses symbols by RDOQ in all passes, (channels, height, width).
void quantize(const Prior& prior, const TileParameters& tile, const SymbolSource& source, int threads,
              int16_t* symbols);

// Computes for each symbol its rate in bits, and two errors of its latent: from the symbol, and from the
// reconstruction. Errors are in distances of neighbouring symbols. All are (channels, height, width).
void rate_and_distortion(const Prior& prior, const TileParameters& tile, const SymbolSource& source, int threads,
                         float* bits, float* remainder, float* error);

}  // namespace sdtrt
