// The entropy coder and its tables: sections 3.1 and 3.2 of docs/format.md.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace sdtrt {

constexpr int PRECISION = 24;  // the weights of a table sum to 2^24
constexpr uint32_t TOTAL = 1u << PRECISION;
constexpr uint64_t STATE_MIN = uint64_t(1) << 32;  // a smaller state is refilled from the words
constexpr int MAX_BINS = 64;
constexpr int MAX_ROWS = 1 << 16;       // an index of a row has 16 bits
constexpr int ESCAPE_OFFSET = 1 << 15;  // an escaped symbol is coded as symbol + 2^15 in 16 bits
constexpr int ESCAPE_BITS = 16;

// Probability tables, each split into "is the mode" and "which other bin".
class Tables {
public:
    // What is read for each symbol.
    struct OfRow {
        uint32_t mode_weight;
        int16_t mode;
        uint8_t low_bits;
    };

    // `modes`: the bin that has more than half of the weight in each row, or -1. `mode_weights`: its weight. `rest`:
    // for each row the weights of the bins in the second step. `low_bits`: number of low bits of a symbol in each row.
    // `centroids`: reconstruction offsets in 1/64 symbol, may be null. `costs`: bits of each bin.
    Tables(int rows, int bins, const int32_t* modes, const uint32_t* mode_weights, const uint32_t* rest,
           const int32_t* low_bits, const int8_t* centroids, const float* costs)
        : bins_(bins), rows_(rows), starts_(size_t(rows) * (bins + 1)), hints_(size_t(rows) * HINTS) {
        if (rows < 1 || rows > MAX_ROWS || bins < 2 || bins > MAX_BINS) throw std::invalid_argument("size of tables");
        for (int row = 0; row < rows; ++row) {
            uint32_t* starts = &starts_[size_t(row) * (bins + 1)];
            uint64_t sum = 0;
            for (int bin = 0; bin < bins; ++bin) {
                starts[bin] = uint32_t(sum);
                const uint32_t weight = rest[size_t(row) * bins + bin];
                if (weight == 0 || weight > TOTAL) throw std::invalid_argument("weight of a table");
                sum += weight;
            }
            starts[bins] = uint32_t(sum);
            if (sum != TOTAL) throw std::invalid_argument("sum of a table");
            if (modes[row] < -1 || modes[row] >= bins) throw std::invalid_argument("mode of a table");
            if (mode_weights[row] == 0 || mode_weights[row] >= TOTAL) throw std::invalid_argument("weight of a mode");
            if (low_bits[row] < 0 || low_bits[row] > ESCAPE_BITS) throw std::invalid_argument("low bits of a table");
            of_rows_.push_back({mode_weights[row], int16_t(modes[row]), uint8_t(low_bits[row])});
            int bin = 0;
            for (int hint = 0; hint < HINTS; ++hint) {
                while (starts[bin + 1] <= uint32_t(hint) << HINT_SHIFT) ++bin;
                hints_[size_t(row) * HINTS + hint] = uint8_t(bin);
            }
        }
        const size_t size = size_t(rows) * bins;
        if (centroids) centroids_.assign(centroids, centroids + size);
        costs_.assign(costs, costs + size);
    }

    const OfRow* of_rows() const { return of_rows_.data(); }
    int bins() const { return bins_; }
    int rows() const { return rows_; }
    int escape() const { return bins_ - 1; }
    int max_bin() const { return bins_ / 2 - 1; }  // bin n stands for n - max_bin, the last one for the escape code
    int mode(int row) const { return of_rows_[row].mode; }
    uint32_t mode_weight(int row) const { return of_rows_[row].mode_weight; }
    int low_bits(int row) const { return of_rows_[row].low_bits; }
    bool has_centroids() const { return !centroids_.empty(); }
    int centroid(int row, int bin) const { return centroids_.empty() ? 0 : centroids_[size_t(row) * bins_ + bin]; }
    float cost(int row, int bin) const { return costs_[size_t(row) * bins_ + bin]; }
    uint32_t start(int row, int bin) const { return starts_[size_t(row) * (bins_ + 1) + bin]; }

    // Returns the bin of the second step that contains `quantile`, 0 to 2^24 - 1.
    int find(int row, uint32_t quantile) const {
        const uint32_t* starts = &starts_[size_t(row) * (bins_ + 1)];
        int bin = hints_[size_t(row) * HINTS + (quantile >> HINT_SHIFT)];
        while (starts[bin + 1] <= quantile) ++bin;
        return bin;
    }

    // Returns the bin of a symbol, given its difference to the base of its context.
    int bin_of(int row, int difference) const {
        const int bin = (difference >> low_bits(row)) + max_bin();
        return unsigned(bin) > unsigned(escape()) ? escape() : bin;
    }

private:
    static constexpr int HINT_BITS = 6, HINTS = 1 << HINT_BITS, HINT_SHIFT = PRECISION - HINT_BITS;

    int bins_, rows_;
    std::vector<uint32_t> starts_;
    std::vector<uint8_t> hints_;  // for each row, the bin in which each 64th of the quantiles starts
    std::vector<OfRow> of_rows_;
    std::vector<int8_t> centroids_;
    std::vector<float> costs_;
};

class AnsDecoder {
public:
    // `words` in the order in which they are read; they must outlive the decoder.
    AnsDecoder(const uint32_t* words, size_t count) : words_(words), end_(words + count) {
        refill();
        refill();
    }

    // Reads a flag of which false has a weight of `weight` of 2^24.
    bool flag(uint32_t weight) {
        const uint32_t quantile = uint32_t(state_) & (TOTAL - 1);
        const bool flag = quantile >= weight;
        const uint32_t start = flag ? weight : 0, share = flag ? TOTAL - weight : weight;
        advance(quantile - start, share);
        return flag;
    }

    int bin(const Tables& tables, int row) {
        const uint32_t quantile = uint32_t(state_) & (TOTAL - 1);
        const int bin = tables.find(row, quantile);
        const uint32_t start = tables.start(row, bin);
        advance(quantile - start, tables.start(row, bin + 1) - start);
        return bin;
    }

    // Reads a number of `bits` bits, at most 24.
    uint32_t raw(int bits) {
        const uint32_t quantile = uint32_t(state_) & (TOTAL - 1), share = TOTAL >> bits;
        const uint32_t number = quantile >> (PRECISION - bits);
        advance(quantile & (share - 1), share);
        return number;
    }

    size_t words_remaining() const { return size_t(end_ - words_); }
    bool is_at_end() const { return words_ == end_ && state_ == 0; }
    // Whether more may have been read than the stream holds, if the stream was truncated.
    bool is_exhausted() const { return words_ == end_ && state_ < STATE_MIN; }

private:
    void advance(uint32_t offset, uint32_t share) {
        state_ = (state_ >> PRECISION) * share + offset;
        refill();
    }

    void refill() {
        if (state_ < STATE_MIN && words_ != end_) state_ = state_ << 32 | *words_++;
    }

    const uint32_t *words_, *end_;
    uint64_t state_ = 0;
};

// Writes a stream from its end: what a decoder reads first is written last.
class AnsEncoder {
public:
    void write(uint32_t start, uint32_t share) {
        if (state_ >= uint64_t(share) << (64 - PRECISION)) {
            words_.push_back(uint32_t(state_));
            state_ >>= 32;
        }
        state_ = (state_ / share) << PRECISION | (start + state_ % share);
    }

    void write_flag(bool flag, uint32_t weight) { flag ? write(weight, TOTAL - weight) : write(0, weight); }

    void write_bin(const Tables& tables, int row, int bin) {
        const uint32_t start = tables.start(row, bin);
        write(start, tables.start(row, bin + 1) - start);
    }

    void write_raw(uint32_t number, int bits) {
        if (bits) write(number << (PRECISION - bits), TOTAL >> bits);
    }

    // Number of complete words so far; later writes cannot change them.
    size_t words() const { return words_.size(); }

    // Returns the stream; zero bytes at the start of its first word are left out.
    std::string stream() const {
        std::vector<uint32_t> words = words_;
        for (uint64_t rest = state_; rest; rest >>= 32) words.push_back(uint32_t(rest));
        std::string bytes;
        bytes.reserve(4 * words.size());
        for (size_t n = words.size(); n-- > 0;) {
            for (int shift = 24; shift >= 0; shift -= 8) {
                const char byte = char(words[n] >> shift & 0xFF);
                if (byte || !bytes.empty()) bytes.push_back(byte);
            }
        }
        return bytes;
    }

private:
    std::vector<uint32_t> words_;
    uint64_t state_ = 0;
};

}  // namespace sdtrt
