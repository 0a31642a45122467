#include "prior_arrays.h"

#include <map>
#include <stdexcept>
#include <tuple>

namespace sdtrt {

namespace {

constexpr int WINDOW_NUMBERS = 4, OFFSET_NUMBERS = 2;
constexpr int MAX_CHANNELS = 255;

// Reads numbers one after the other.
class Numbers {
public:
    explicit Numbers(const PassNumbers& numbers) : numbers_(numbers) {}

    int next() {
        if (next_ >= numbers_.size()) throw std::invalid_argument("numbers of a pass");
        return numbers_[next_++];
    }

    // Reads a count, and checks that there are so many items of `numbers` numbers each.
    int next_count(int numbers) {
        const int count = next();
        if (count < 0 || size_t(count) > (numbers_.size() - next_) / size_t(numbers)) {
            throw std::invalid_argument("numbers of a pass");
        }
        return count;
    }

private:
    const PassNumbers& numbers_;
    size_t next_ = 0;
};

std::vector<Offset> read_offsets(Numbers& numbers) {
    std::vector<Offset> offsets;
    for (int count = numbers.next_count(OFFSET_NUMBERS); count-- > 0;) {
        const int y = numbers.next();
        offsets.push_back({y, numbers.next()});
    }
    return offsets;
}

Pass read_pass(Numbers& numbers) {
    Pass pass;
    pass.start = numbers.next();
    pass.stop = numbers.next();
    pass.stride = numbers.next();
    pass.predicted = numbers.next() != 0;
    pass.spacing = numbers.next();
    pass.offsets = read_offsets(numbers);
    return pass;
}

std::vector<Window> read_windows(Numbers& numbers) {
    std::vector<Window> windows;
    for (int count = numbers.next_count(WINDOW_NUMBERS); count-- > 0;) {
        Window window;
        for (int* number : {&window.first, &window.last, &window.dy, &window.dx}) *number = numbers.next();
        check_window(window, MAX_CHANNELS);
        windows.push_back(window);
    }
    return windows;
}

int num_channels(const std::vector<Window>& windows) {
    int count = 0;
    for (const Window& window : windows) count += window.last - window.first;
    return count;
}

// The inputs of a network, as pairs of neighbours and as pairs of columns of its weights.
struct PairedInputs {
    std::vector<Neighbour> neighbours;
    std::vector<InputPair> columns;

    // Adds a pair, and returns its number.
    size_t add(int channel, const Window& window, InputPair pair) {
        neighbours.push_back({channel, window.dy, window.dx});
        columns.push_back(pair);
        return columns.size() - 1;
    }
};

// Pairs each latent that is an input with that of the next channel.
PairedInputs pair_channels(const std::vector<Window>& values) {
    PairedInputs pairs;
    int input = 0;
    for (const Window& window : values) {
        for (int channel = window.first; channel < window.last; channel += 2) {
            const bool has_next = channel + 1 < window.last;
            pairs.add(channel, window, {input, has_next ? input + 1 : -1});
            input += 1 + has_next;
        }
    }
    return pairs;
}

// Pairs each latent that is an input with its magnitude, which may be an input, too.
PairedInputs pair_magnitudes(const std::vector<Window>& values, const std::vector<Window>& magnitudes) {
    PairedInputs pairs;
    std::map<std::tuple<int, int, int>, size_t> numbers;
    int input = 0;
    for (const bool is_magnitude : {false, true}) {
        for (const Window& window : is_magnitude ? magnitudes : values) {
            for (int channel = window.first; channel < window.last; ++channel, ++input) {
                const auto entry = numbers.insert({{channel, window.dy, window.dx}, pairs.columns.size()}).first;
                const auto is_free = [&](size_t number) {
                    const InputPair& pair = pairs.columns[number];
                    return (is_magnitude ? pair.second : pair.first) < 0;
                };
                if (entry->second == pairs.columns.size() || !is_free(entry->second)) {  // an input may be listed twice
                    entry->second = pairs.add(channel, window, {-1, -1});
                }
                InputPair& pair = pairs.columns[entry->second];
                (is_magnitude ? pair.second : pair.first) = input;
            }
        }
    }
    return pairs;
}

Network make_network(const NetworkArrays& arrays, int inputs, int outputs, const std::vector<InputPair>& pairs) {
    constexpr size_t MAX_ROWS_OF_LAYER = 1 << 26;  // more than a prior's file can have
    if (arrays.first_bias.size() > MAX_ROWS_OF_LAYER || arrays.second_bias.size() > MAX_ROWS_OF_LAYER) {
        throw std::invalid_argument("size of a network");
    }
    Network network;
    const int rows = int(arrays.first_bias.size()), columns = inputs + KNOTS;
    network.second_units = int(arrays.second_bias.size());
    network.outputs = outputs;
    network.units = rows - outputs;
    const bool is_right = network.units >= 0 && arrays.first.size() == size_t(rows) * columns &&
                          arrays.second.size() == size_t(network.second_units) * network.units &&
                          arrays.output.size() == size_t(outputs) * network.second_units;
    if (!is_right) throw std::invalid_argument("size of a network");
    network.first = Layer(arrays.first.data(), rows, columns, pairs);
    network.second =
        Layer(arrays.second.data(), network.second_units, network.units, neighbouring_pairs(network.units));
    network.output =
        Layer(arrays.output.data(), outputs, network.second_units, neighbouring_pairs(network.second_units));
    network.first_bias = arrays.first_bias;
    network.second_bias = arrays.second_bias;
    network.first_bias.resize(size_t(network.first.padded_rows));
    network.second_bias.resize(size_t(network.second.padded_rows));
    network.output_bias.resize(size_t(network.output.padded_rows));
    for (int row = 0; row < rows; ++row) {
        const int16_t* features = arrays.first.data() + int64_t(row) * columns + inputs;
        network.feature_weights.insert(network.feature_weights.end(), features, features + KNOTS);
    }
    return network;
}

}  // namespace

std::shared_ptr<NetworkPrior> make_network_prior(std::shared_ptr<const Tables> tables, std::vector<int> order,
                                                 const std::vector<PassNumbers>& passes_,
                                                 const std::vector<NetworkArrays>& arrays, const int32_t* magnitude) {
    if (arrays.size() != passes_.size()) throw std::invalid_argument("networks");
    std::vector<Pass> passes;
    std::vector<std::vector<Window>> values, magnitudes;
    bool uses_magnitudes = false;
    for (const PassNumbers& of_pass : passes_) {
        Numbers numbers(of_pass);
        passes.push_back(read_pass(numbers));
        values.push_back(read_windows(numbers));
        magnitudes.push_back(read_windows(numbers));
        uses_magnitudes |= !magnitudes.back().empty();
    }
    std::vector<std::vector<Neighbour>> inputs;
    std::vector<Network> networks;
    for (size_t n = 0; n < passes.size(); ++n) {
        PairedInputs pairs = uses_magnitudes ? pair_magnitudes(values[n], magnitudes[n]) : pair_channels(values[n]);
        const int outputs = 2 * (passes[n].stop - passes[n].start);
        if (outputs < 0 || outputs > 2 * MAX_CHANNELS) throw std::invalid_argument("pass");
        const int num_inputs = num_channels(values[n]) + num_channels(magnitudes[n]);
        networks.push_back(make_network(arrays[n], num_inputs, outputs, pairs.columns));
        inputs.push_back(std::move(pairs.neighbours));
    }
    return std::make_shared<NetworkPrior>(std::move(tables), std::move(order), std::move(passes), std::move(inputs),
                                          std::move(networks), magnitude, uses_magnitudes);
}

std::shared_ptr<AdaptivePrior> make_adaptive_prior(std::shared_ptr<const Tables> tables,
                                                   const std::vector<PassNumbers>& passes_,
                                                   const std::vector<uint8_t>& parameters, const int32_t* magnitude) {
    std::vector<Pass> passes;
    std::vector<std::vector<Offset>> taps;
    for (const PassNumbers& of_pass : passes_) {
        Numbers numbers(of_pass);
        passes.push_back(read_pass(numbers));
        taps.push_back(read_offsets(numbers));
    }
    const int channels = int(parameters.size() / AdaptivePrior::PARAMETERS);
    if (channels * size_t(AdaptivePrior::PARAMETERS) != parameters.size()) throw std::invalid_argument("parameters");
    return std::make_shared<AdaptivePrior>(std::move(tables), std::move(passes), std::move(taps), parameters.data(),
                                           channels, magnitude);
}

}  // namespace sdtrt
