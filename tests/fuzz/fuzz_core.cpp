// A coverage-guided attack on the compiled core: entropy decoders, priors and encoders, under sanitizers.
//
// `make fuzz-core` builds and runs it. `core_inputs.py` writes the file that it reads at its start: the program's own
// name with ".arrays" appended. An input is a `Header`, followed by the words of a stream.
//
// Not covered: hostile probability tables, weights and residual models, which Python validates before it passes them
// on; networks of full size; and module.cpp, which only Python can call.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "priors/prior_arrays.h"
#include "residual.h"
#include "simd/instruction_sets.h"
#include "stream.h"

using namespace sdtrt;

namespace {

constexpr int MAX_SIDE = 40;        // of a tile
constexpr int MAX_ROW = 300;        // of a tile of one row: longer than what a network takes at once
constexpr int MAX_BLOCKS_SIDE = 6;  // of a residual
constexpr int MAX_CUTS = 4;
constexpr uint16_t NO_CUT = 0xFFFF;
constexpr int MAX_COUNT = 1 << 20;  // of the items of a list in the file

enum class Action { DECODE = 0, DECODE_ALSO = 1, ENCODE = 2, CHANGE_PRIOR = 3 };

// The start of an input. `core_inputs.py` writes the same bytes.
struct Header {
    uint8_t target;         // number of the prior; the number after the last prior is the residual layer
    uint8_t flags;          // bits 0 and 1: action; 2 to 4: depend on the action; 5 to 7: instruction set
    uint8_t height, width;  // less 1
    uint8_t edges;          // bits 0 to 3: edges that border another tile; 4 to 6: threads; 7: a tile of one row
    uint8_t step;           // number of the quantization step
    uint8_t end, complete_passes;
    uint16_t words_after_cuts[MAX_CUTS];  // up to the first NO_CUT

    Action action() const { return Action(flags & 3); }
    int flag(int bit) const { return flags >> bit & 1; }
    size_t instruction_set() const { return flags >> 5; }
    int threads() const { return (edges >> 4 & 7) == 7 && instruction_set() == 7 ? 2 : 1; }  // rarely 2, which is slow
    bool is_row() const { return edges >> 7; }
    // Limits the time of an execution. Encoding takes longer than decoding.
    int max_latents() const { return (action() == Action::ENCODE ? 200 : 800) * (1 + is_row()); }
};

// The arguments of a prior, and the prior that they make.
struct PriorArrays {
    std::shared_ptr<const Tables> tables;
    std::vector<int32_t> order;
    std::vector<PassNumbers> passes;
    std::vector<NetworkArrays> networks;  // empty for an adaptive prior
    std::vector<uint8_t> parameters;      // empty for a prior with networks
    std::vector<int32_t> magnitude;
    std::vector<int32_t> cuts;
    std::shared_ptr<const Prior> prior;

    std::shared_ptr<const Prior> make() const {
        if (networks.empty()) return make_adaptive_prior(tables, passes, parameters, magnitude.data());
        return make_network_prior(tables, order, passes, networks, magnitude.data());
    }
};

// The content of the file.
struct Arrays {
    std::vector<PriorArrays> priors;
    ResidualModel residual;
    std::vector<int64_t> steps;  // (steps, STEP_NUMBERS): code, step, inverse step, features
};
constexpr int STEP_NUMBERS = 3 + KNOTS;

void check(bool is_right, const char* message) {
    if (is_right) return;
    std::fprintf(stderr, "fuzz_core: %s\n", message);
    std::abort();
}

class File {
public:
    explicit File(const std::string& path) : file_(path, std::ios::binary) { check(file_.good(), "no file of arrays"); }

    template <class T>
    std::vector<T> array() {
        int64_t nbytes = 0;
        file_.read(reinterpret_cast<char*>(&nbytes), sizeof nbytes);
        check(file_.good() && nbytes >= 0 && nbytes <= MAX_COUNT * 8 && nbytes % sizeof(T) == 0, "not an array");
        std::vector<T> values(size_t(nbytes) / sizeof(T));
        file_.read(reinterpret_cast<char*>(values.data()), nbytes);
        check(file_.good(), "a file of arrays that ends early");
        return values;
    }

    int number() {
        const std::vector<int64_t> values = array<int64_t>();
        check(values.size() == 1 && values[0] >= 0 && values[0] <= MAX_COUNT, "not a number");
        return int(values[0]);
    }

    std::shared_ptr<const Tables> tables() {
        const int rows = number(), bins = number();
        const auto modes = array<int32_t>();
        const auto mode_weights = array<uint32_t>(), rest = array<uint32_t>();
        const auto low_bits = array<int32_t>();
        const auto centroids = array<int8_t>();
        const auto costs = array<float>();
        return std::make_shared<const Tables>(rows, bins, modes.data(), mode_weights.data(), rest.data(),
                                              low_bits.data(), centroids.empty() ? nullptr : centroids.data(),
                                              costs.data());
    }

    std::vector<PassNumbers> passes() {
        std::vector<PassNumbers> passes;
        for (int count = number(); count-- > 0;) passes.push_back(array<int32_t>());
        return passes;
    }

    std::vector<NetworkArrays> networks() {
        std::vector<NetworkArrays> networks;
        for (int count = number(); count-- > 0;) {
            networks.push_back(
                {array<int16_t>(), array<int32_t>(), array<int16_t>(), array<int32_t>(), array<int16_t>()});
        }
        return networks;
    }

    PriorArrays prior(bool has_networks) {
        PriorArrays arrays;
        arrays.tables = tables();
        if (has_networks) arrays.order = array<int32_t>();
        arrays.passes = passes();
        if (has_networks) arrays.networks = networks();
        if (!has_networks) arrays.parameters = array<uint8_t>();
        arrays.magnitude = array<int32_t>();
        arrays.cuts = array<int32_t>();
        arrays.prior = arrays.make();
        return arrays;
    }

private:
    std::ifstream file_;
};

Arrays read_arrays(const std::string& path) {
    File file(path);
    Arrays arrays;
    for (const bool has_networks : {true, false}) {
        for (int count = file.number(); count-- > 0;) arrays.priors.push_back(file.prior(has_networks));
    }
    ResidualModel& residual = arrays.residual;
    residual.tables = file.tables();
    for (auto* member :
         {&residual.weights, &residual.offsets, &residual.magnitude, &residual.matrix, &residual.zigzag}) {
        *member = file.array<int32_t>();
    }
    residual.check();
    arrays.steps = file.array<int64_t>();
    check(!arrays.steps.empty() && arrays.steps.size() % STEP_NUMBERS == 0, "no quantization steps");
    return arrays;
}

Arrays arrays;

using Words = std::vector<uint32_t>;

TileParameters tile_of(const Header& header, const Prior& prior) {
    TileParameters tile;
    const int channels = int(prior.order.size()), height = header.is_row() ? 1 : 1 + header.height % MAX_SIDE;
    const int max_width = header.is_row() ? MAX_ROW : MAX_SIDE, column = header.width << header.is_row();
    tile.shape = {channels, height, 1 + column % clamped(header.max_latents() / (channels * height), 1, max_width)};
    const auto edge = [&](int bit) { return (header.edges >> bit & 1) != 0; };
    tile.edges = {edge(0), edge(1), edge(2), edge(3)};
    const int64_t* numbers = &arrays.steps[header.step % (arrays.steps.size() / STEP_NUMBERS) * STEP_NUMBERS];
    tile.step_code = int(numbers[0]);
    tile.step = numbers[1];
    tile.inverse_step = numbers[2];
    for (int n = 0; n < KNOTS; ++n) tile.features[n] = int32_t(numbers[3 + n]);
    return tile;
}

size_t size_of(const TileParameters& tile) {
    return size_t(tile.shape.channels) * tile.shape.height * tile.shape.width;
}

// Encodes latents or symbols, and checks that the stream decodes to `symbols`.
void check_round_trip(const PriorArrays& of, const TileParameters& tile, const SymbolSource& source,
                      const std::vector<int16_t>& symbols, int threads) {
    const int count = int(of.prior->passes.size());
    const std::vector<int> cuts(of.cuts.begin(), of.cuts.end());
    const EncodedStream stream = encode_stream(*of.prior, tile, source, count, cuts, threads);
    Words words((stream.data.size() + 3) / 4);
    const size_t missing = 4 * words.size() - stream.data.size();  // bytes of the first word
    for (size_t n = 0; n < stream.data.size(); ++n) {
        words[(n + missing) / 4] |= uint32_t(uint8_t(stream.data[n])) << (24 - (n + missing) % 4 * 8);
    }
    const ReadRules rules = {count, cuts, stream.words_after_cuts, false, 0, false};
    std::vector<int16_t> decoded(symbols.size());
    const ReadResult result =
        decode_stream(*of.prior, tile, words.data(), words.size(), rules, threads, decoded.data(), nullptr);
    check(result.damage == Damage::NONE && result.is_at_end, "a stream of the encoder is damaged");
    check(decoded == symbols, "symbols change from encoder to decoder");
}

ReadRules rules_of(const Header& header, const PriorArrays& of) {
    ReadRules rules;
    rules.end = header.end;
    rules.cuts.assign(of.cuts.begin(), of.cuts.end());
    for (const uint16_t words : header.words_after_cuts) {
        if (words == NO_CUT) break;
        rules.words_after_cuts.push_back(words);
    }
    rules.salvages = header.flag(2);
    rules.complete_passes = header.complete_passes;
    rules.is_unreadable = rules.salvages && header.flag(3);
    return rules;
}

// Decodes a stream. Encodes its symbols again if it is complete, unless the prior is hostile: then passes may overlap.
void decode(const Header& header, const PriorArrays& of, const Words& words, bool is_hostile) {
    const TileParameters tile = tile_of(header, *of.prior);
    const ReadRules rules = rules_of(header, of);
    std::vector<int16_t> symbols(size_of(tile));
    std::vector<int32_t> offsets(header.flag(4) ? 0 : symbols.size());
    const ReadResult result = decode_stream(*of.prior, tile, words.data(), words.size(), rules, header.threads(),
                                            symbols.data(), header.flag(4) ? nullptr : offsets.data());
    if (is_hostile || result.damage != Damage::NONE || !result.is_at_end) return;
    check_round_trip(of, tile, {symbols.data(), nullptr, 0, nullptr}, symbols, header.threads());
}

// Returns latents from -`limit` to `limit`, most of them small. The words repeat if there are too few.
template <class T>
std::vector<T> latents_of(const Words& words, size_t count, int limit) {
    std::vector<T> latents(count);
    for (size_t n = 0; n < count && !words.empty(); ++n) {
        const auto value = int16_t(words[n / 2 % words.size()] >> n % 2 * 16);
        latents[n] = value % 8 ? T(value) / 1024 : T(value) * T(limit) / 32768;
    }
    return latents;
}

// Encodes latents with every function of an encoder.
void encode(const Header& header, const PriorArrays& of, const Words& words) {
    const TileParameters tile = tile_of(header, *of.prior);
    const size_t size = size_of(tile);
    const auto scaled = latents_of<float>(words, size, 32766);
    const std::vector<float> lambdas(size_t(tile.shape.height) * tile.shape.width, header.complete_passes / 64.0f);
    const SymbolSource latents = {nullptr, scaled.data(), header.end / 64.0f,
                                  header.flag(2) ? lambdas.data() : nullptr};
    std::vector<int16_t> symbols(size);
    quantize(*of.prior, tile, latents, header.threads(), symbols.data());
    check_round_trip(of, tile, latents, symbols, header.threads());
    std::vector<float> bits(size), remainder(size), error(size);
    rate_and_distortion(*of.prior, tile, {symbols.data(), scaled.data(), 0, nullptr}, header.threads(), bits.data(),
                        remainder.data(), error.data());
    const auto adaptive = std::dynamic_pointer_cast<const AdaptivePrior>(of.prior);
    if (!adaptive || !header.flag(3)) return;
    std::vector<int32_t> costs;
    for (int row = 0; row < of.tables->rows(); ++row) {
        for (int bin = 0; bin < of.tables->bins(); ++bin) costs.push_back(int32_t(256 * of.tables->cost(row, bin)));
    }
    fit_adaptive(*adaptive, tile, symbols.data(), costs.data());
}

// Decodes with a prior in which the first words change numbers, unless the core refuses it.
void decode_with_changes(const Header& header, const PriorArrays& of, const Words& words) {
    constexpr size_t NUM_CHANGES = 2;
    if (words.size() < NUM_CHANGES) return;
    PriorArrays changed = of;
    for (size_t n = 0; n < NUM_CHANGES; ++n) {
        const size_t list = words[n] & 0xFF, index = words[n] >> 8 & 0xFF;
        const auto number = int16_t(words[n] >> 16);
        if (list < of.passes.size()) {
            PassNumbers& pass = changed.passes[list];
            pass[index % pass.size()] = number;
        } else if (!changed.order.empty()) {
            changed.order[index % changed.order.size()] = number;
        } else {
            changed.parameters[index % changed.parameters.size()] = uint8_t(number);
        }
    }
    try {
        changed.prior = changed.make();
    } catch (const std::invalid_argument&) {
        return;
    }
    decode(header, changed, {words.begin() + NUM_CHANGES, words.end()}, true);
}

// Adds the pixels of coefficients to an image.
void add_coefficients(const std::vector<int32_t>& coefficients, int rows, int columns, const Header& header) {
    std::vector<int16_t> residual(coefficients.size());
    inverse_dct(coefficients.data(), rows, columns, residual.data());
    const int height = rows * BLOCK_SIDE, width = columns * BLOCK_SIDE, channels = 3 + header.flag(4);
    std::vector<uint8_t> pixels(size_t(height) * width * channels, header.complete_passes);
    add_residual(pixels.data(), int64_t(width) * channels, channels, residual.data(), int64_t(width) * 3, height,
                 width);
}

void attack_residual(const Header& header, const Words& words) {
    const int rows = 1 + header.height % MAX_BLOCKS_SIDE, columns = 1 + header.width % MAX_BLOCKS_SIDE;
    const size_t size = size_t(COLOUR_AXES) * BANDS * rows * columns;
    const int residual_step = 1 + header.words_after_cuts[0];
    int last_group = 0;
    std::vector<int32_t> coefficients(size);
    if (header.action() == Action::CHANGE_PRIOR) {  // the layer has no prior; its DCT takes any coefficients
        for (size_t n = 0; n < size && !words.empty(); ++n) coefficients[n] = int32_t(words[n % words.size()]);
        add_coefficients(coefficients, rows, columns, header);
        return;
    }
    if (header.action() != Action::ENCODE) {
        decode_residual(arrays.residual, words.data(), words.size(), rows, columns, residual_step, coefficients.data(),
                        &last_group);
        add_coefficients(coefficients, rows, columns, header);
        return;
    }
    const auto target = latents_of<double>(words, size, 1 << 20);
    const std::vector<float> lambdas(size_t(rows) * columns, header.complete_passes / 64.0f);
    std::vector<int32_t> last_groups(size_t(COLOUR_AXES) * rows * columns);
    for (size_t n = 0; n < last_groups.size() && !words.empty(); ++n) {
        last_groups[n] = int32_t(words[n % words.size()] % NUM_LAST_GROUPS);
    }
    encode_residual(arrays.residual, target.data(), lambdas.data(), last_groups.data(), rows, columns);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char*** argv) {
    arrays = read_arrays(std::string((*argv)[0]) + ".arrays");
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t nbytes) {
    Header header;
    if (nbytes < sizeof header) return 0;
    std::memcpy(&header, data, sizeof header);
    Words words((nbytes - sizeof header) / sizeof(uint32_t));
    if (!words.empty()) std::memcpy(words.data(), data + sizeof header, words.size() * sizeof(uint32_t));
    const auto& sets = available_kernels();
    use_kernels(sets[std::min(header.instruction_set(), sets.size() - 1)]->name);  // most often the fastest one
    const size_t target = header.target % (arrays.priors.size() + 1);
    if (target == arrays.priors.size()) {
        attack_residual(header, words);
        return 0;
    }
    const PriorArrays& of = arrays.priors[target];
    switch (header.action()) {
        case Action::ENCODE:
            encode(header, of, words);
            break;
        case Action::CHANGE_PRIOR:
            decode_with_changes(header, of, words);
            break;
        default:
            decode(header, of, words, false);
    }
    return 0;
}
