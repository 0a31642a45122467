// Planes of small integers with a margin, and the positions of a pass in them: sections 3.3 and 3.5 of docs/format.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace sdtrt {

constexpr int MARGIN = 4;  // rows and columns: the largest offset of a neighbour

// Rounds towards minus infinity, which C++17 leaves to the implementation; every supported compiler does it.
static_assert((-1 >> 1) == -1, "right shifts must be arithmetic");

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

// Planes with a margin, one array for each parity of rows and columns. The strides of passes are even, so every other
// position of an array belongs to a pass with a stride of 4, and all of them to one with a stride of 2.
template <class T>
class PaddedPlanes {
public:
    // `slack`: number of values behind the last one that may be read, too.
    PaddedPlanes(const Shape& shape, const InnerEdges& edges, int slack = 0)
        : shape_(shape),
          edges_(edges),
          rows_((shape.height + 2 * MARGIN + 1) / 2),
          columns_((shape.width + 2 * MARGIN + 1) / 2),
          values_(size_t(4) * shape.channels * rows_ * columns_ + slack) {}

    // Returns the value at a row and column of the plane, which may lie in the margin. The next column with the same
    // parity is the next value.
    const T* at(int channel, int y, int x) const { return &values_[index(channel, y + MARGIN, x + MARGIN)]; }

    // Stores the values of a pass in one channel, and extends them over inner edges: each position in the margin takes
    // the value of the nearest row and column of the same part.
    void put(int channel, const Grid& grid, const T* values) {
        for (const Part& part : grid.parts) {
            const int step = grid.stride / 2;
            for (int row = 0; row < part.rows; ++row) {
                const T* source = values + part.first + int64_t(row) * part.columns;
                T* target = &values_[index(channel, part.y + row * grid.stride + MARGIN, part.x + MARGIN)];
                for (int column = 0; column < part.columns; ++column) target[int64_t(column) * step] = source[column];
            }
            extend(channel, part, grid.stride);
        }
    }

private:
    size_t index(int channel, int padded_y, int padded_x) const {
        const size_t parity = (padded_y & 1) * 2 + (padded_x & 1);
        return ((parity * shape_.channels + channel) * rows_ + padded_y / 2) * columns_ + padded_x / 2;
    }

    void extend(int channel, const Part& part, int stride) {
        const int first_y = part.y + MARGIN, last_y = first_y + (part.rows - 1) * stride;
        const int first_x = part.x + MARGIN, last_x = first_x + (part.columns - 1) * stride;
        const int height = shape_.height + 2 * MARGIN, width = shape_.width + 2 * MARGIN;
        if (edges_.top) {
            for (int y = first_y % stride; y < first_y; y += stride) copy_row(channel, y, first_y, part, stride);
        }
        if (edges_.bottom) {
            for (int y = last_y + stride; y < height; y += stride) copy_row(channel, y, last_y, part, stride);
        }
        for (int y = first_y % stride; y < height; y += stride) {
            if (edges_.left) {
                const T value = values_[index(channel, y, first_x)];
                for (int x = first_x % stride; x < first_x; x += stride) values_[index(channel, y, x)] = value;
            }
            if (edges_.right) {
                const T value = values_[index(channel, y, last_x)];
                for (int x = last_x + stride; x < width; x += stride) values_[index(channel, y, x)] = value;
            }
        }
    }

    void copy_row(int channel, int target_y, int source_y, const Part& part, int stride) {
        for (int column = 0; column < part.columns; ++column) {
            const int x = part.x + MARGIN + column * stride;
            values_[index(channel, target_y, x)] = values_[index(channel, source_y, x)];
        }
    }

    Shape shape_;
    InnerEdges edges_;
    int rows_, columns_;
    std::vector<T> values_;
};

}  // namespace sdtrt
