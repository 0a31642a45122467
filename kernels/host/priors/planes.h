// Planes of small integers with a margin, and the positions of a pass in them: sections 3.3 and 3.5 of docs/format.md.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace sdtrt {

constexpr int MARGIN = 4;  // rows and columns: the largest offset of a neighbour

// What the code expects of compiler and processor. Where it does not hold the build fails, and NumPy is used.
static_assert((-1 >> 1) == -1, "right shifts must be arithmetic");
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "kernels read pairs of int16 as int32, so the first must be in the lower half"
#endif
#ifdef __FAST_MATH__
#error "every floating-point operation must be rounded by itself"
#endif
static_assert(FLT_EVAL_METHOD == 0, "every floating-point operation must be rounded by itself");
#ifdef _MSC_VER
#pragma fp_contract(off)
#endif

template <class T>
T clamped(T value, T low, T high) {
    return value < low ? low : value > high ? high : value;
}

struct Shape {
    int channels, height, width;
};

// The edges of a tile that border another tile.
struct InnerEdges {
    bool top, bottom, left, right;
};

struct Offset {
    int y, x;
};

// The positions of a pass that one of its offsets has: from row `y` and column `x`, every `stride`-th one.
struct Part {
    int y, x, rows, columns;
    int64_t first;  // index of the first position among those of the pass
};

struct Grid {
    int stride = 1;
    std::vector<Part> parts;
    int64_t positions = 0;

    Grid() = default;

    Grid(int stride, const std::vector<Offset>& offsets, const Shape& shape) : stride(stride) {
        for (const Offset& offset : offsets) {
            if (offset.y >= shape.height || offset.x >= shape.width) continue;
            const int rows = (shape.height - offset.y + stride - 1) / stride;
            const int columns = (shape.width - offset.x + stride - 1) / stride;
            parts.push_back({offset.y, offset.x, rows, columns, positions});
            positions += int64_t(rows) * columns;
        }
    }
};

// Two numbers of a position that lie side by side: inputs of a network, which processors multiply together.
struct Pair {
    int16_t first, second;
};

// Planes with a margin. There is one array for each parity of rows and columns, since strides are even: a pass with a
// stride of 2 has each position of an array, one with a stride of 4 every other one.
class PaddedPlanes {
public:
    // `slack`: number of positions behind the last one that may be read, too.
    PaddedPlanes(const Shape& shape, const InnerEdges& edges, int slack = 0)
        : shape_(shape),
          edges_(edges),
          rows_((shape.height + 2 * MARGIN + 1) / 2),
          columns_((shape.width + 2 * MARGIN + 1) / 2),
          pairs_(size_t(4) * shape.channels * rows_ * columns_ + slack) {}

    // Returns the pair at a row and column of the plane, which may lie in the margin. The next column with the same
    // parity is the next pair.
    const Pair* at(int channel, int y, int x) const { return &pairs_[index(channel, y + MARGIN, x + MARGIN)]; }

    // Stores one number of the pairs for each position of a pass in one channel, and extends them over inner edges:
    // each position in the margin takes the number of the nearest row and column of the same part.
    void put(int channel, const Grid& grid, const int16_t* values, int16_t Pair::* number) {
        const int step = grid.stride / 2;
        for (const Part& part : grid.parts) {
            for (int row = 0; row < part.rows; ++row) {
                const int16_t* source = values + part.first + int64_t(row) * part.columns;
                Pair* target = &pairs_[index(channel, part.y + row * grid.stride + MARGIN, part.x + MARGIN)];
                for (int column = 0; column < part.columns; ++column) {
                    target[int64_t(column) * step].*number = source[column];
                }
            }
            extend(channel, part, grid.stride, number);
        }
    }

private:
    size_t index(int channel, int padded_y, int padded_x) const {
        const size_t parity = (padded_y & 1) * 2 + (padded_x & 1);
        return ((parity * shape_.channels + channel) * rows_ + padded_y / 2) * columns_ + padded_x / 2;
    }

    void extend(int channel, const Part& part, int stride, int16_t Pair::* number) {
        const int first_y = part.y + MARGIN, last_y = first_y + (part.rows - 1) * stride;
        const int first_x = part.x + MARGIN, last_x = first_x + (part.columns - 1) * stride;
        const int height = shape_.height + 2 * MARGIN, width = shape_.width + 2 * MARGIN;
        if (edges_.top) {
            for (int y = first_y % stride; y < first_y; y += stride)
                copy_row(channel, y, first_y, part, stride, number);
        }
        if (edges_.bottom) {
            for (int y = last_y + stride; y < height; y += stride) copy_row(channel, y, last_y, part, stride, number);
        }
        for (int y = first_y % stride; y < height; y += stride) {
            if (edges_.left) {
                const int16_t value = pairs_[index(channel, y, first_x)].*number;
                for (int x = first_x % stride; x < first_x; x += stride) pairs_[index(channel, y, x)].*number = value;
            }
            if (edges_.right) {
                const int16_t value = pairs_[index(channel, y, last_x)].*number;
                for (int x = last_x + stride; x < width; x += stride) pairs_[index(channel, y, x)].*number = value;
            }
        }
    }

    void copy_row(int channel, int target_y, int source_y, const Part& part, int stride, int16_t Pair::* number) {
        for (int column = 0; column < part.columns; ++column) {
            const int x = part.x + MARGIN + column * stride;
            pairs_[index(channel, target_y, x)].*number = pairs_[index(channel, source_y, x)].*number;
        }
    }

    Shape shape_;
    InnerEdges edges_;
    int rows_, columns_;
    std::vector<Pair> pairs_;
};

}  // namespace sdtrt
