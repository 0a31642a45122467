// The network of one pass of a prior, in integers: section 3.5 of docs/format.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "prior.h"

namespace sdtrt {

constexpr int LATENT_LIMIT = 1023;                 // of the magnitude of latents and of hidden units
constexpr int HIDDEN_SHIFT = 6, SECOND_SHIFT = 9;  // fractional bits of the weights of the two hidden layers

constexpr int ROWS_AT_ONCE = 6;  // results that a kernel computes together, in registers
constexpr int CHUNK = 128;       // positions that a network takes at most; a multiple of each kernel's block

// The inputs of a layer come in pairs, since processors add two products of 16 bits at once.
struct InputPair {
    int first, second;  // columns of the weights, or -1 for an input that is not used
};

// The weights of a layer as kernels read them: for each `ROWS_AT_ONCE` results, for each pair of inputs, two weights of
// each result. Rows are filled up with zeros.
struct Layer {
    int rows = 0, padded_rows = 0, pairs = 0;
    std::vector<int16_t> weights;

    Layer() = default;

    // `source`: (rows, columns) with `stride` numbers from one row to the next.
    Layer(const int16_t* source, int rows, int stride, const std::vector<InputPair>& inputs)
        : rows(rows),
          padded_rows((rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE * ROWS_AT_ONCE),
          pairs(int(inputs.size())),
          weights(size_t(padded_rows) * pairs * 2) {
        for (int row = 0; row < rows; ++row) {
            for (int pair = 0; pair < pairs; ++pair) {
                const size_t group = size_t(row / ROWS_AT_ONCE) * pairs + pair;
                int16_t* target = &weights[(group * ROWS_AT_ONCE + row % ROWS_AT_ONCE) * 2];
                const int16_t* of_row = source + size_t(row) * stride;
                if (inputs[pair].first >= 0) target[0] = of_row[inputs[pair].first];
                if (inputs[pair].second >= 0) target[1] = of_row[inputs[pair].second];
            }
        }
    }
};

// Returns pairs of inputs that follow each other.
inline std::vector<InputPair> neighbouring_pairs(int inputs) {
    std::vector<InputPair> pairs;
    for (int first = 0; first < inputs; first += 2) pairs.push_back({first, first + 1 < inputs ? first + 1 : -1});
    return pairs;
}

// Two hidden layers, and a linear shortcut from the inputs to the outputs. No partial sum may reach 2^24 in magnitude,
// which the caller has checked.
struct Network {
    int units = 0, second_units = 0, outputs = 0;
    Layer first, second, output;
    std::vector<int32_t> first_bias, second_bias, output_bias;  // of padded rows
    std::vector<int16_t> feature_weights;                       // (units + outputs, KNOTS)
};

// The outputs of a network become contexts: see section 3.5.
struct ContextScale {
    int64_t inverse_step;  // the inverse of the quantization step, times 2^22
    int32_t index_offset;  // added to outputs before they become scale indices
    bool predicted;
};

// Memory for the inputs and the intermediate results of a network, for one thread.
struct Scratch {
    std::vector<Pair> inputs;               // (pairs, CHUNK), where they are copied
    std::vector<const Pair*> input_starts;  // where the values of each pair of inputs begin
    std::vector<uint16_t> nonzero;          // the pairs of inputs that are not all 0
    std::vector<Pair> hidden;               // (pairs, block), of either hidden layer
    std::vector<int32_t> sums;              // (padded rows, block), of the first layer, then of either other one
    std::vector<int32_t> outputs;           // (outputs, CHUNK)

    // `largest`: a network whose layers are as large as the largest ones. `block`: positions that a kernel computes
    // together.
    Scratch(const Network& largest, int block)
        : inputs(size_t(largest.first.pairs) * CHUNK),
          input_starts(size_t(largest.first.pairs)),
          nonzero(size_t(largest.first.pairs) + 1),
          hidden(size_t(std::max(largest.second.pairs, largest.output.pairs)) * block),
          sums(size_t(largest.first.padded_rows + std::max(largest.second.padded_rows, largest.output.padded_rows)) *
               block),
          outputs(size_t(largest.outputs) * CHUNK) {}
};

}  // namespace sdtrt
