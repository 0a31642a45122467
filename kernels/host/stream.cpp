#include "stream.h"

#include "rdoq.h"

namespace sdtrt {

namespace {

constexpr int32_t RECON_LIMIT = OFFSET_UNITS << 15;  // in 1/64 step: the nearest symbols have 16 bits

// A walk over the passes that have positions in a tile: `contexts` are those of the pass at hand.
class Walk {
public:
    Walk(const Prior& prior, const TileParameters& tile, int threads)
        : prior(prior), tile(tile), team(threads), known_(prior.start(tile)) {
        for (size_t n = 0; n < prior.passes.size(); ++n) {
            Grid grid(prior.passes[n].stride, prior.passes[n].offsets, tile.shape);
            if (!grid.positions) continue;
            numbers.push_back(int(n));
            grids.push_back(std::move(grid));
        }
    }

    const Pass& pass(size_t n) const { return prior.passes[numbers[n]]; }
    int64_t size(size_t n) const { return (pass(n).stop - pass(n).start) * grids[n].positions; }

    void compute_contexts(size_t n) {
        contexts.rows.resize(size_t(size(n)));
        contexts.bases.resize(size_t(size(n)));
        if (pass(n).predicted) contexts.origins.resize(size_t(size(n)));
        known_->context(numbers[n], grids[n], contexts, team);
    }

    void put(size_t n, const int32_t* symbols) { known_->put(numbers[n], grids[n], symbols, contexts, team); }

    // Calls use(index in the pass, index in the planes) for each symbol of a pass of planes (channels, height, width).
    template <class Use>
    void for_each_symbol(size_t n, const Use& use) {
        const Shape& shape = tile.shape;
        const int64_t plane_size = int64_t(shape.height) * shape.width;
        team.for_each(pass(n).stop - pass(n).start, [&](int64_t channel, int) {
            const int64_t plane = prior.order[pass(n).start + channel] * plane_size;
            for (const Part& part : grids[n].parts) {
                int64_t index = channel * grids[n].positions + part.first;
                for (int row = 0; row < part.rows; ++row) {
                    int64_t plane_index = plane + int64_t(part.y + row * grids[n].stride) * shape.width + part.x;
                    for (int column = 0; column < part.columns; ++column, ++index, plane_index += grids[n].stride) {
                        use(index, plane_index);
                    }
                }
            }
        });
    }

    const Prior& prior;
    const TileParameters& tile;
    ThreadTeam team;
    std::vector<int> numbers;  // of the passes that have positions
    std::vector<Grid> grids;
    Contexts contexts;

private:
    std::unique_ptr<KnownSymbols> known_;
};

int bit_length(size_t number) {
    int bits = 0;
    for (; number; number >>= 1) ++bits;
    return bits;
}

// Returns the reconstruction offset of a symbol in 1/64 step.
int32_t recon_offset(const Pass& pass, const Contexts& contexts, int64_t n, int symbol, int bin_offset) {
    if (!pass.predicted) return bin_offset;
    const int32_t fine = OFFSET_UNITS * symbol + bin_offset;
    const int32_t latent = contexts.origins[n] + ((fine * pass.spacing) >> 6);  // OFFSET_UNITS is 2^6
    return clamped(latent, -RECON_LIMIT, RECON_LIMIT - OFFSET_UNITS) - OFFSET_UNITS * symbol;
}

// Checks that levels end where their lengths say.
class LevelEnds {
public:
    explicit LevelEnds(const ReadRules& rules) : rules_(rules) {}

    // Returns false if a level that ends before pass `number` does not end here.
    bool are_right(int number, const AnsDecoder& decoder) {
        while (next_ < rules_.words_after_cuts.size() && next_ < rules_.cuts.size() && rules_.cuts[next_] <= number) {
            if (rules_.words_after_cuts[next_++] != int64_t(decoder.words_remaining())) return false;
        }
        return true;
    }

private:
    const ReadRules& rules_;
    size_t next_ = 0;
};

// Reads one pass, and decides what that means for the passes after it.
class PassReader {
public:
    PassReader(const ReadRules& rules, AnsDecoder& decoder, ReadResult& result)
        : rules_(rules), decoder_(decoder), result_(result), ends_(rules), is_missing_(rules.is_unreadable) {}

    // Calls `read`, which returns the damage it found. Returns whether its result counts.
    template <class Read>
    bool read(int number, const Read& read) {
        if (is_missing_) return false;
        if (!rules_.salvages) {
            result_.damage = ends_.are_right(number, decoder_) ? Damage::NONE : Damage::LEVEL_END;
            result_.was_exhausted = decoder_.is_exhausted();
            if (result_.damage == Damage::NONE) result_.damage = read();
            return result_.damage == Damage::NONE;
        }
        is_missing_ = read() != Damage::NONE || (number >= rules_.complete_passes && decoder_.is_exhausted());
        return !is_missing_;
    }

    bool ends_right(int number) { return rules_.salvages || ends_.are_right(number, decoder_); }
    bool is_missing() const { return is_missing_; }

private:
    const ReadRules& rules_;
    AnsDecoder& decoder_;
    ReadResult& result_;
    LevelEnds ends_;
    bool is_missing_;
};

// The choice of symbols of an encoder.
class Chooser {
public:
    Chooser(Walk& walk, const SymbolSource& source) : walk_(walk), source_(source) {}

    void choose(size_t n, std::vector<int32_t>& symbols) {
        if (source_.symbols) {
            walk_.for_each_symbol(
                n, [&](int64_t index, int64_t plane_index) { symbols[index] = source_.symbols[plane_index]; });
            return;
        }
        const bool tries_more = largest_lambda(n) > LAMBDA_FOR_MORE_CANDIDATES;
        const int64_t plane_size = int64_t(walk_.tile.shape.height) * walk_.tile.shape.width;
        const Tables& tables = *walk_.prior.tables;
        const Contexts& contexts = walk_.contexts;
        walk_.for_each_symbol(n, [&](int64_t index, int64_t plane_index) {
            const float target = to_symbol_units(walk_.pass(n), contexts, index, source_.scaled[plane_index]);
            const float lambda = source_.lambda_map ? source_.lambda_map[plane_index % plane_size] : source_.lambda;
            const int row = contexts.rows[index], base = contexts.bases[index];
            int symbol = cheaper_neighbour(tables, row, base, target, lambda);
            if (tries_more) {
                symbol = cheapest_towards_mode(tables, row, base, contexts.mode(index), symbol, target, lambda);
            }
            symbols[index] = symbol;
        });
    }

private:
    // Returns the largest lambda at the positions of a pass. It is 0 without a map: a single lambda tries no more
    // candidates.
    float largest_lambda(size_t n) const {
        if (!source_.lambda_map) return 0;
        float largest = 0;
        const Grid& grid = walk_.grids[n];
        for (const Part& part : grid.parts) {
            for (int row = 0; row < part.rows; ++row) {
                const float* lambdas =
                    source_.lambda_map + int64_t(part.y + row * grid.stride) * walk_.tile.shape.width + part.x;
                for (int column = 0; column < part.columns; ++column) {
                    largest = std::max(largest, lambdas[int64_t(column) * grid.stride]);
                }
            }
        }
        return largest;
    }

    Walk& walk_;
    const SymbolSource& source_;
};

}  // namespace

ReadResult decode_stream(const Prior& prior, const TileParameters& tile, const uint32_t* words, size_t num_words,
                         const ReadRules& rules, int threads, int16_t* symbols, int32_t* offsets) {
    Walk walk(prior, tile, threads);
    const Tables& tables = *prior.tables;
    AnsDecoder decoder(words, num_words);
    ReadResult result;
    PassReader reader(rules, decoder, result);
    std::vector<int32_t> values;
    std::vector<uint8_t> bins;
    std::vector<uint32_t> undecided;
    const bool has_count = reader.read(0, [&] {
        result.announced = int(decoder.raw(bit_length(walk.numbers.size())));
        return result.announced > int(walk.numbers.size()) ? Damage::TOO_MANY_PASSES : Damage::NONE;
    });
    if (result.damage != Damage::NONE) return result;
    for (size_t n = 0; n < walk.numbers.size() && walk.numbers[n] < rules.end; ++n) {
        const Pass& pass = walk.pass(n);
        const bool is_in_stream = !has_count || int(n) < result.announced;
        if (!is_in_stream && !pass.predicted) continue;
        walk.compute_contexts(n);
        values.resize(size_t(walk.size(n)));
        bins.resize(size_t(walk.size(n)));
        const bool is_read = is_in_stream && reader.read(walk.numbers[n], [&] {
            return read_symbols(decoder, tables, walk.contexts.rows.data(), walk.contexts.bases.data(), walk.size(n),
                                bins.data(), values.data(), undecided);
        });
        if (result.damage != Damage::NONE) return result;
        result.passes_read += is_read;
        result.passes_missing += is_in_stream && !is_read;
        if (!is_read) {
            for (int64_t i = 0; i < walk.size(n); ++i) values[i] = walk.contexts.mode(i);
        }
        const bool has_offsets = offsets && (pass.predicted || (is_read && tables.has_centroids()));
        walk.for_each_symbol(n, [&](int64_t index, int64_t plane_index) {
            symbols[plane_index] = int16_t(values[index]);
            if (!has_offsets) return;
            const int bin_offset = is_read ? tables.centroid(walk.contexts.rows[index], bins[index]) : 0;
            offsets[plane_index] = recon_offset(pass, walk.contexts, index, values[index], bin_offset);
        });
        walk.put(n, values.data());
        if (is_read) {
            result.last_pass_is_zero = std::all_of(values.begin(), values.end(), [](int32_t value) { return !value; });
        }
    }
    if (!reader.ends_right(rules.end)) result.damage = Damage::LEVEL_END;
    result.is_at_end = decoder.is_at_end();
    result.is_exhausted = decoder.is_exhausted();
    return result;
}

EncodedStream encode_stream(const Prior& prior, const TileParameters& tile, const SymbolSource& source, int count,
                            const std::vector<int>& cuts, int threads) {
    struct CodedPass {
        std::vector<uint16_t> rows;
        std::vector<int32_t> bases, symbols;
        std::vector<uint8_t> bins;
    };
    Walk walk(prior, tile, threads);
    Chooser chooser(walk, source);
    const Tables& tables = *prior.tables;
    std::vector<CodedPass> coded;
    size_t passes_in_stream = 0;
    for (size_t n = 0; n < walk.numbers.size() && int(n) < count; ++n) {
        walk.compute_contexts(n);
        CodedPass coded_pass;
        coded_pass.symbols.resize(size_t(walk.size(n)));
        coded_pass.bins.resize(size_t(walk.size(n)));
        chooser.choose(n, coded_pass.symbols);
        bool is_zero = true;
        for (int64_t i = 0; i < walk.size(n); ++i) {
            coded_pass.bins[i] =
                uint8_t(tables.bin_of(walk.contexts.rows[i], coded_pass.symbols[i] - walk.contexts.bases[i]));
            is_zero &= coded_pass.symbols[i] == 0;
        }
        walk.put(n, coded_pass.symbols.data());
        coded_pass.rows = walk.contexts.rows;
        coded_pass.bases = walk.contexts.bases;
        coded.push_back(std::move(coded_pass));
        if (!is_zero) passes_in_stream = coded.size();
    }
    AnsEncoder encoder;
    EncodedStream stream;
    stream.words_after_cuts.assign(cuts.size(), 0);
    for (size_t n = passes_in_stream; n-- > 0;) {
        const CodedPass& coded_pass = coded[n];
        write_symbols(encoder, tables, coded_pass.rows.data(), coded_pass.bases.data(),
                      int64_t(coded_pass.symbols.size()), coded_pass.bins.data(), coded_pass.symbols.data());
        for (size_t cut = 0; cut < cuts.size(); ++cut) {
            if (cuts[cut] <= walk.numbers[n]) stream.words_after_cuts[cut] = int64_t(encoder.words());
        }
    }
    encoder.write_raw(uint32_t(passes_in_stream), bit_length(walk.numbers.size()));
    stream.data = encoder.stream();
    return stream;
}

void quantize(const Prior& prior, const TileParameters& tile, const SymbolSource& source, int threads,
              int16_t* symbols) {
    Walk walk(prior, tile, threads);
    Chooser chooser(walk, source);
    std::vector<int32_t> values;
    for (size_t n = 0; n < walk.numbers.size(); ++n) {
        walk.compute_contexts(n);
        values.resize(size_t(walk.size(n)));
        chooser.choose(n, values);
        walk.put(n, values.data());
        walk.for_each_symbol(
            n, [&](int64_t index, int64_t plane_index) { symbols[plane_index] = int16_t(values[index]); });
    }
}

void rate_and_distortion(const Prior& prior, const TileParameters& tile, const SymbolSource& source, int threads,
                         float* bits, float* remainder, float* error) {
    Walk walk(prior, tile, threads);
    const Tables& tables = *prior.tables;
    std::vector<int32_t> values;
    for (size_t n = 0; n < walk.numbers.size(); ++n) {
        walk.compute_contexts(n);
        values.resize(size_t(walk.size(n)));
        walk.for_each_symbol(n, [&](int64_t index, int64_t plane_index) {
            const int symbol = source.symbols[plane_index];
            const float target = to_symbol_units(walk.pass(n), walk.contexts, index, source.scaled[plane_index]);
            values[index] = symbol;
            remainder[plane_index] = target - float(symbol);
            const Candidate chosen = candidate(tables, walk.contexts.rows[index], walk.contexts.bases[index], symbol,
                                               remainder[plane_index]);
            bits[plane_index] = chosen.bits;
            error[plane_index] = chosen.error;
        });
        walk.put(n, values.data());
    }
}

}  // namespace sdtrt
