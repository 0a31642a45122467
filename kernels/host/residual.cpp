#include "residual.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>

#include "priors/planes.h"
#include "simd/instruction_sets.h"

namespace sdtrt {

namespace {

constexpr int GROUP_EDGES[NUM_GROUPS + 1] = {0, 1, 3, 6, 10, 21, 36, 49, 64};  // bands at which groups begin
constexpr int SCORE_SHIFT = 10;
constexpr int LARGEST_RESIDUAL_SYMBOL = ESCAPE_OFFSET - 1;

// Values of blocks with a margin of one block, which is 0.
class BlockPlane {
public:
    BlockPlane(int rows, int columns) : stride_(columns + 2), values_(size_t(rows + 2) * stride_) {}

    int32_t& at(int row, int column) { return values_[size_t(row + 1) * stride_ + column + 1]; }

    // Returns the sum over the four direct neighbours.
    int direct_sum(int row, int column) const {
        const int32_t* here = &values_[size_t(row + 1) * stride_ + column + 1];
        return here[-stride_] + here[stride_] + here[-1] + here[1];
    }

    // Returns the sum over the four diagonal neighbours.
    int diagonal_sum(int row, int column) const {
        const int32_t* here = &values_[size_t(row + 1) * stride_ + column + 1];
        return here[-stride_ - 1] + here[-stride_ + 1] + here[stride_ - 1] + here[stride_ + 1];
    }

private:
    int64_t stride_;
    std::vector<int32_t> values_;
};

struct Block {
    int row, column;
    int64_t index;
};

// Symbols that are coded together: the last groups of some blocks, or the bands of a group.
struct ResidualPass {
    int channel, group, phase;  // group -1: last groups
    std::vector<Block> blocks;

    int first_band() const { return group < 0 ? 0 : GROUP_EDGES[group]; }
    int num_bands() const { return group < 0 ? 1 : GROUP_EDGES[group + 1] - GROUP_EDGES[group]; }
    int64_t size() const { return num_bands() * int64_t(blocks.size()); }
};

// The symbols of an image that are known so far, and the contexts that they give to later passes.
class BlockContexts {
public:
    BlockContexts(const ResidualModel& model, int rows, int columns)
        : model_(model), rows_(rows), columns_(columns), ones_(rows, columns) {
        for (int channel = 0; channel < COLOUR_AXES; ++channel) {
            last_groups_.emplace_back(rows, columns);
            totals_.emplace_back(rows, columns);
            for (int group = 0; group < NUM_GROUPS; ++group) group_sums_.emplace_back(rows, columns);
        }
        for (int row = 0; row < rows; ++row) {
            for (int column = 0; column < columns; ++column) ones_.at(row, column) = 1;
        }
        luma_.resize(size_t(BANDS) * rows * columns);
    }

    // Calls code(pass) for each pass that has blocks. It must call `put` before it returns.
    template <class Code>
    void for_each_pass(const Code& code) {
        for (int channel = 0; channel < COLOUR_AXES; ++channel) {
            for (int phase = 0; phase < 3; ++phase) {
                visit({channel, -1, phase, {}}, code, [&](int row, int column) {
                    return phase == (row & column & 1 ? 1 : (row | column) & 1 ? 2 : 0);
                });
            }
        }
        for (int channel = 0; channel < COLOUR_AXES; ++channel) {
            for (int group = 0; group < NUM_GROUPS; ++group) {
                for (int phase = 0; phase < 2; ++phase) {
                    visit({channel, group, phase, {}}, code, [&](int row, int column) {
                        return ((row ^ column) & 1) == phase && last_groups_[channel].at(row, column) > group;
                    });
                }
            }
        }
    }

    // Computes the table rows of a pass, (bands, blocks).
    void rows_of(const ResidualPass& pass, std::vector<uint16_t>& table_rows) {
        const size_t count = pass.blocks.size();
        table_rows.resize(size_t(pass.size()));
        if (pass.group < 0) {
            for (size_t n = 0; n < count; ++n) table_rows[n] = last_group_row(pass, pass.blocks[n]);
            return;
        }
        const int32_t* weights =
            &model_.weights[size_t((pass.channel * NUM_GROUPS + pass.group) * 2 + pass.phase) * NUM_FEATURES];
        const int32_t* offsets = &model_.offsets[size_t(pass.channel * 2 + pass.phase) * BANDS + pass.first_band()];
        const int first_row = LAST_GROUP_ROWS + (pass.channel * NUM_GROUPS + pass.group) * NUM_SCORE_BINS;
        for (size_t n = 0; n < count; ++n) {
            const int64_t score = score_of(pass, pass.blocks[n], weights);
            const uint8_t* luma = &luma_[size_t(pass.blocks[n].index) * BANDS + pass.first_band()];
            for (int band = 0; band < pass.num_bands(); ++band) {
                int64_t of_band = score + offsets[band];
                if (pass.channel) of_band += int64_t(weights[NUM_FEATURES - 1]) * model_.magnitude[luma[band]];
                const int bin = int(clamped<int64_t>(of_band >> SCORE_SHIFT, 0, NUM_SCORE_BINS - 1));
                table_rows[band * count + n] = uint16_t(first_row + bin);
            }
        }
    }

    // Stores the symbols of a pass, (bands, blocks).
    void put(const ResidualPass& pass, const int32_t* symbols) {
        const size_t count = pass.blocks.size();
        for (size_t n = 0; n < count; ++n) {
            const Block& block = pass.blocks[n];
            if (pass.group < 0) {
                last_groups_[pass.channel].at(block.row, block.column) = symbols[n];
                continue;
            }
            int64_t sum = 0;
            for (int band = 0; band < pass.num_bands(); ++band) {
                const int magnitude = std::abs(symbols[band * count + n]);
                sum += magnitude;
                if (!pass.channel) {
                    luma_[size_t(block.index) * BANDS + pass.first_band() + band] =
                        uint8_t(std::min(magnitude, COMPRESSED - 1));
                }
            }
            const int limited = int(std::min<int64_t>(sum, COMPRESSED - 1));
            group_sums(pass.channel, pass.group).at(block.row, block.column) = limited;
            totals_[pass.channel].at(block.row, block.column) += limited;
        }
    }

private:
    template <class Code, class Belongs>
    void visit(ResidualPass pass, const Code& code, const Belongs& belongs) {
        for (int row = 0; row < rows_; ++row) {
            for (int column = 0; column < columns_; ++column) {
                if (belongs(row, column)) pass.blocks.push_back({row, column, int64_t(row) * columns_ + column});
            }
        }
        if (!pass.blocks.empty()) code(pass);
    }

    uint16_t last_group_row(const ResidualPass& pass, const Block& block) {
        const int row = block.row, column = block.column;
        BlockPlane& last_groups = last_groups_[pass.channel];
        int mean = 0;
        if (pass.phase) {
            const bool is_diagonal = pass.phase == 1;
            const int sum = is_diagonal ? last_groups.diagonal_sum(row, column) : last_groups.direct_sum(row, column);
            const int neighbours = is_diagonal ? ones_.diagonal_sum(row, column) : ones_.direct_sum(row, column);
            const int count = std::max(neighbours, 1);
            mean = (sum + count / 2) / count;
        }
        const int below = pass.channel ? last_groups_[pass.channel - 1].at(row, column) : 0;
        return uint16_t(((pass.channel * 3 + pass.phase) * NUM_LAST_GROUPS + mean) * NUM_LAST_GROUPS + below);
    }

    int64_t score_of(const ResidualPass& pass, const Block& block, const int32_t* weights) {
        const int channel = pass.channel, group = pass.group, row = block.row, column = block.column;
        BlockPlane& totals = totals_[channel];
        BlockPlane& last_groups = last_groups_[channel];
        int sums[9] = {};
        if (group >= 1) {
            sums[0] = group_sums(channel, group - 1).at(row, column);
            sums[2] = totals.at(row, column);
            sums[4] = group_sums(channel, group - 1).direct_sum(row, column);
            sums[5] = group_sums(channel, group - 1).diagonal_sum(row, column);
        }
        if (group >= 2) sums[1] = group_sums(channel, group - 2).at(row, column);
        if (pass.phase) sums[3] = group_sums(channel, group).direct_sum(row, column);
        sums[6] = totals.direct_sum(row, column);
        if (channel) sums[7] = group_sums(0, group).at(row, column);
        if (channel == 2) sums[8] = group_sums(1, group).at(row, column);
        int64_t score = 0;
        for (int n = 0; n < 9; ++n) score += int64_t(weights[n]) * model_.magnitude[std::min(sums[n], COMPRESSED - 1)];
        score += int64_t(weights[9]) * 16 * last_groups.at(row, column);
        return score + int64_t(weights[10]) * 4 * last_groups.direct_sum(row, column);
    }

    BlockPlane& group_sums(int channel, int group) { return group_sums_[size_t(channel) * NUM_GROUPS + group]; }

    const ResidualModel& model_;
    int rows_, columns_;
    BlockPlane ones_;
    std::vector<BlockPlane> last_groups_, totals_, group_sums_;  // sums of magnitudes, limited to COMPRESSED - 1
    std::vector<uint8_t> luma_;                                  // (blocks, BANDS), magnitudes of channel 0
};

// Returns the value of a symbol in 1/16 of an 8-bit value. `weighted_step`: 1/16 times the weight in 1/32.
int32_t dequantized(int symbol, int centroid, int64_t weighted_step) {
    constexpr int64_t LIMIT = 1 << 16;
    const int64_t value = ((int64_t(64) * symbol + centroid) * weighted_step + 1024) >> 11;
    return int32_t(clamped(value, -LIMIT, LIMIT));
}

// The symbols of a pass of an encoder.
struct CodedPass {
    std::vector<uint16_t> rows;
    std::vector<int32_t> symbols;
    std::vector<uint8_t> bins;
};

// Chooses the cheapest of 0 and the two symbols nearest to a coefficient, and returns its cost D + lambda R. Arithmetic
// is that of residual_codec.py: errors in double precision, costs in single.
float cheapest(const Tables& tables, int row, double target, float lambda, int32_t* symbol, uint8_t* bin) {
    constexpr double LIMIT = 1 << 30;  // so that the conversion is defined, also for NaN
    const int truncated = int(target > -LIMIT ? std::min(target, LIMIT) : -LIMIT);
    const int away = truncated + (target < 0 ? -1 : 1);
    float least = 0;
    bool is_first = true;
    for (int candidate : {truncated, away, 0}) {
        candidate = clamped(candidate, -LARGEST_RESIDUAL_SYMBOL, LARGEST_RESIDUAL_SYMBOL);
        const int of_candidate = tables.bin_of(row, candidate);
        const double offset = float(tables.centroid(row, of_candidate)) * (1.0f / 64);
        const double error = target - candidate - offset;
        const float cost = float(error * error + double(lambda * tables.cost(row, of_candidate)));
        if (!is_first && !(cost < least)) continue;
        is_first = false;
        least = cost;
        *symbol = candidate;
        *bin = uint8_t(of_candidate);
    }
    return least;
}

// Returns bits as an integer in 1/256, so that sums do not depend on their order. It is limited, so that they do not
// overflow.
int64_t in_fixed_point(double bits) {
    constexpr double LIMIT = uint32_t(1) << 31;
    return int64_t(std::nearbyint(bits > -LIMIT / 256 ? std::min(256 * bits, LIMIT) : -LIMIT));  // also for NaN
}

}  // namespace

void ResidualModel::check() const {
    const bool has_sizes = weights.size() == size_t(COLOUR_AXES * NUM_GROUPS * 2 * NUM_FEATURES) &&
                           offsets.size() == size_t(COLOUR_AXES * 2 * BANDS) && magnitude.size() == COMPRESSED &&
                           matrix.size() == size_t(COLOUR_AXES * BANDS) && zigzag.size() == BANDS;
    if (!has_sizes || !tables || tables->rows() != RESIDUAL_ROWS || tables->bins() != 16) {
        throw std::invalid_argument("residual tables");
    }
    for (int32_t raster : zigzag) {
        if (raster < 0 || raster >= BANDS) throw std::invalid_argument("zigzag");
    }
}

Damage decode_residual(const ResidualModel& model, const uint32_t* words, size_t num_words, int rows, int columns,
                       int residual_step, int32_t* coefficients, int* last_group) {
    const Tables& tables = *model.tables;
    AnsDecoder decoder(words, num_words);
    BlockContexts contexts(model, rows, columns);
    std::vector<uint16_t> table_rows;
    std::vector<uint8_t> bins;
    std::vector<int32_t> symbols;
    std::vector<uint32_t> undecided;
    Damage damage = Damage::NONE;
    contexts.for_each_pass([&](const ResidualPass& pass) {
        if (damage != Damage::NONE) return;
        contexts.rows_of(pass, table_rows);
        bins.resize(size_t(pass.size()));
        symbols.resize(size_t(pass.size()));
        const size_t count = pass.blocks.size();
        if (pass.group < 0) {
            damage = read_bins(decoder, tables, table_rows.data(), pass.size(), bins.data(), undecided);
            if (damage != Damage::NONE) return;
            std::copy(bins.begin(), bins.end(), symbols.begin());
            *last_group = *std::max_element(symbols.begin(), symbols.end());
            if (*last_group >= NUM_LAST_GROUPS) {
                damage = Damage::LAST_GROUP;
                return;
            }
            contexts.put(pass, symbols.data());
            return;
        }
        damage = read_symbols(decoder, tables, table_rows.data(), nullptr, pass.size(), bins.data(), symbols.data(),
                              undecided);
        if (damage != Damage::NONE) return;
        contexts.put(pass, symbols.data());
        for (int band = 0; band < pass.num_bands(); ++band) {
            const int number = pass.first_band() + band;
            const int64_t weighted_step = int64_t(residual_step) * model.matrix[pass.channel * BANDS + number];
            int32_t* of_band = coefficients + pass.channel * int64_t(rows) * columns * BANDS + model.zigzag[number];
            for (size_t n = 0; n < count; ++n) {
                const size_t i = band * count + n;
                of_band[pass.blocks[n].index * BANDS] =
                    dequantized(symbols[i], tables.centroid(table_rows[i], bins[i]), weighted_step);
            }
        }
    });
    if (damage == Damage::NONE && !decoder.is_at_end()) damage = Damage::RESIDUAL_LEFT_OVER;
    return damage;
}

void choose_last_groups(const double* target, const float* lambdas, int64_t blocks, const float* bits, int num_bits,
                        float block_bits, int32_t* last_groups) {
    constexpr double ROUNDING = 0.4f;  // magnitudes of symbols are rounded down after this was added
    constexpr int64_t AT_ONCE = 256;   // blocks whose sums fit the processor's cache
    double sums[AT_ONCE], gains[AT_ONCE], best[AT_ONCE];
    for (int channel = 0; channel < COLOUR_AXES; ++channel) {
        for (int64_t start = 0; start < blocks; start += AT_ONCE) {
            const int64_t count = std::min(AT_ONCE, blocks - start);
            int32_t* chosen = last_groups + channel * blocks + start;
            std::fill(chosen, chosen + count, 0);
            std::fill(best, best + count, 0.0);
            for (int group = 0; group < NUM_GROUPS; ++group) {
                for (int band = GROUP_EDGES[group]; band < GROUP_EDGES[group + 1]; ++band) {
                    const double* of_band = target + (int64_t(channel) * BANDS + band) * blocks + start;
                    for (int64_t n = 0; n < count; ++n) {
                        const double magnitude = std::fabs(of_band[n]), symbol = std::floor(magnitude + ROUNDING);
                        const double error = magnitude - symbol;
                        const int index = symbol < num_bits - 1 ? int(symbol) : num_bits - 1;  // also for NaN
                        const float cost = lambdas[start + n] * bits[index];
                        const double gain = magnitude * magnitude - error * error - cost;
                        sums[n] = band == GROUP_EDGES[group] ? gain : sums[n] + gain;
                    }
                }
                for (int64_t n = 0; n < count; ++n) {
                    gains[n] = group ? gains[n] + sums[n] : sums[n];
                    const double gain = gains[n] - double(block_bits * lambdas[start + n]);
                    if (!(gain > best[n])) continue;
                    best[n] = gain;
                    chosen[n] = group + 1;
                }
            }
        }
    }
}

std::string encode_residual(const ResidualModel& model, const double* target, const float* lambdas,
                            const int32_t* last_groups, int rows, int columns) {
    const Tables& tables = *model.tables;
    const int64_t num_blocks = int64_t(rows) * columns;
    BlockContexts contexts(model, rows, columns);
    std::vector<CodedPass> coded;
    int64_t gain = 0;  // in 1/256 bit: the cost that the residual saves, divided by lambda
    contexts.for_each_pass([&](const ResidualPass& pass) {
        CodedPass coded_pass;
        contexts.rows_of(pass, coded_pass.rows);
        coded_pass.symbols.resize(size_t(pass.size()));
        coded_pass.bins.resize(size_t(pass.size()));
        const size_t count = pass.blocks.size();
        for (size_t i = 0; i < coded_pass.symbols.size(); ++i) {
            const int64_t block = pass.blocks[i % count].index;
            if (pass.group < 0) {
                const int32_t last_group = last_groups[pass.channel * num_blocks + block];
                if (last_group < 0 || last_group >= NUM_LAST_GROUPS) throw std::invalid_argument("last group");
                coded_pass.symbols[i] = last_group;
                coded_pass.bins[i] = uint8_t(last_group);
                gain -= in_fixed_point(tables.cost(coded_pass.rows[i], last_group));
                continue;
            }
            const int band = pass.first_band() + int(i / count);
            const double of_symbol = target[(pass.channel * BANDS + band) * num_blocks + block];
            const float cost = cheapest(tables, coded_pass.rows[i], of_symbol, lambdas[block], &coded_pass.symbols[i],
                                        &coded_pass.bins[i]);
            const float bits_per_error = 1.0f / std::max(lambdas[block], 1e-12f);
            gain += in_fixed_point((of_symbol * of_symbol - cost) * bits_per_error);
        }
        contexts.put(pass, coded_pass.symbols.data());
        coded.push_back(std::move(coded_pass));
    });
    if (gain <= 0) return {};
    AnsEncoder encoder;
    for (size_t n = coded.size(); n-- > 0;) {
        write_symbols(encoder, tables, coded[n].rows.data(), nullptr, int64_t(coded[n].symbols.size()),
                      coded[n].bins.data(), coded[n].symbols.data());
    }
    return encoder.stream();
}

void inverse_dct(const int32_t* coefficients, int rows, int columns, int16_t* residual) {
    for (int64_t row = 0; row < rows; ++row) {
        const int32_t* axes[COLOUR_AXES];
        for (int axis = 0; axis < COLOUR_AXES; ++axis) {
            axes[axis] = coefficients + (int64_t(axis) * rows + row) * columns * BANDS;
        }
        kernels().inverse_dct(axes, columns, residual + row * BLOCK_SIDE * BLOCK_SIDE * columns * 3);
    }
}

void add_residual(uint8_t* pixels, int64_t stride, int channels, const int16_t* residual, int64_t residual_stride,
                  int rows, int columns) {
    for (int row = 0; row < rows; ++row) {
        uint8_t* target = pixels + row * stride;
        const int16_t* source = residual + row * residual_stride;
        if (channels == 3) {
            for (int n = 0; n < 3 * columns; ++n) target[n] = uint8_t(clamped(target[n] + source[n], 0, 255));
            continue;
        }
        for (int column = 0; column < columns; ++column, target += channels, source += 3) {
            for (int n = 0; n < 3; ++n) target[n] = uint8_t(clamped(target[n] + source[n], 0, 255));
        }
    }
}

}  // namespace sdtrt
