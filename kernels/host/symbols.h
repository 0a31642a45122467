// The symbols of passes in an entropy-coded stream: section 3.2 of docs/format.md.
#pragma once

#include <cstdint>
#include <vector>

#include "ans.h"

namespace sdtrt {

// What is wrong with a stream. `streams/damage.py` has the same numbers, and the messages.
enum class Damage {
    NONE = 0,
    TOO_MANY_PASSES,     // it announces more passes than there are
    LEVEL_END,           // a level does not end where its last pass does
    NON_CANONICAL_BIN,   // the mode of a table, coded as another bin
    LAST_GROUP,          // an extent of a block is out of range
    RESIDUAL_LEFT_OVER,  // data follows the last symbol of a residual
};

// Reads the bins of `rows`: all flags, then the bins of all symbols that are not the mode of their table. `undecided`
// is memory for intermediate results.
inline Damage read_bins(AnsDecoder& source, const Tables& tables, const uint16_t* rows, int64_t count, uint8_t* bins,
                        std::vector<uint32_t>& undecided) {
    if (undecided.size() < size_t(count)) undecided.resize(size_t(count));
    AnsDecoder decoder = source;  // a local one stays in registers, although bytes are written
    const Tables::OfRow* of_rows = tables.of_rows();
    uint32_t* list = undecided.data();
    size_t num_undecided = 0;
    for (int64_t n = 0; n < count; ++n) {
        const Tables::OfRow row = of_rows[rows[n]];
        bins[n] = uint8_t(row.mode);
        list[num_undecided] = uint32_t(n);
        num_undecided += row.mode < 0 || decoder.flag(row.mode_weight);
    }
    bool is_canonical = true;
    for (size_t i = 0; i < num_undecided; ++i) {
        const uint32_t n = list[i];
        const int bin = decoder.bin(tables, rows[n]);
        is_canonical &= bin != of_rows[rows[n]].mode;
        bins[n] = uint8_t(bin);
    }
    source = decoder;
    return is_canonical ? Damage::NONE : Damage::NON_CANONICAL_BIN;
}

// Reads symbols: their bins, then the low bits of wide bins, then the symbols that are escaped. `bases` may be null for
// bases of 0. All symbols have 16 bits: bases are within +-2^12, and bins with their low bits within 2^10.
inline Damage read_symbols(AnsDecoder& decoder, const Tables& tables, const uint16_t* rows, const int32_t* bases,
                           int64_t count, uint8_t* bins, int32_t* symbols, std::vector<uint32_t>& undecided) {
    const Damage damage = read_bins(decoder, tables, rows, count, bins, undecided);
    if (damage != Damage::NONE) return damage;
    const Tables::OfRow* of_rows = tables.of_rows();
    const int escape = tables.escape(), max_bin = tables.max_bin();
    bool has_escapes = false;
    for (int64_t n = 0; n < count; ++n) {
        const int low_bits = of_rows[rows[n]].low_bits;
        symbols[n] = (bases ? bases[n] : 0) + (bins[n] - max_bin) * (1 << low_bits);
        has_escapes |= bins[n] == escape;
        if (low_bits && bins[n] != escape) symbols[n] += int32_t(decoder.raw(low_bits));
    }
    for (int64_t n = 0; has_escapes && n < count; ++n) {
        if (bins[n] == escape) symbols[n] = int32_t(decoder.raw(ESCAPE_BITS)) - ESCAPE_OFFSET;
    }
    return Damage::NONE;
}

// Writes symbols, given their bins, in the reverse of the order in which `read_symbols` reads them.
inline void write_symbols(AnsEncoder& encoder, const Tables& tables, const uint16_t* rows, const int32_t* bases,
                          int64_t count, const uint8_t* bins, const int32_t* symbols) {
    for (int64_t n = count; n-- > 0;) {
        if (bins[n] == tables.escape()) encoder.write_raw(uint32_t(symbols[n] + ESCAPE_OFFSET), ESCAPE_BITS);
    }
    for (int64_t n = count; n-- > 0;) {
        const int low_bits = tables.low_bits(rows[n]);
        if (low_bits && bins[n] != tables.escape()) {
            encoder.write_raw(uint32_t(symbols[n] - (bases ? bases[n] : 0)) & ((1u << low_bits) - 1), low_bits);
        }
    }
    for (int64_t n = count; n-- > 0;) {
        if (bins[n] != tables.mode(rows[n])) encoder.write_bin(tables, rows[n], bins[n]);
    }
    for (int64_t n = count; n-- > 0;) {
        const int mode = tables.mode(rows[n]);
        if (mode >= 0) encoder.write_flag(bins[n] != mode, tables.mode_weight(rows[n]));
    }
}

}  // namespace sdtrt
