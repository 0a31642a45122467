// Adds a residual to pixels: DCT coefficients, int32 (N, 3, rows, columns, 8, 8), to uint8 rows of interleaved channels,
// a stride apart.
//
// Per pixel it reads 12 bytes of coefficients, and reads and writes 3 or 4 bytes of pixels. A group is a row of two
// neighbouring blocks, 16 pixels: no thread waits for another, and no sum is computed twice. Eight neighbouring threads
// take the eight rows of the same blocks, and read the same coefficients in the same access.
#include "inverse_dct.cuh"

template <int CHANNELS>
struct AddResidual {
    static constexpr int BLOCKS = 2, SIZE = BLOCKS * SIDE, COEFFICIENTS = SIDE * SIDE;
    using Group = Run<uint8_t, SIZE * CHANNELS>;

    const int32_t* coefficients;  // aligned to 16 bytes
    uint8_t* pixels;
    int64_t image_stride, row_stride;  // bytes
    int64_t images;
    int32_t height, width;

    // There are also groups for rows of the last blocks that lie below the image; these groups do nothing.
    HD int64_t groups() const { return images * block_rows() * groups_of(width, SIZE) * SIDE; }

    HD int32_t block_rows() const { return static_cast<int32_t>(groups_of(height, SIDE)); }

    HD Place place(int64_t group) const {
        const Place blocks = place_of(group / SIDE, SIZE, block_rows(), width);
        return {blocks.image, blocks.row * SIDE + static_cast<int32_t>(group % SIDE), blocks.column};
    }

    HD Group load(int64_t group) const {
        const Place at = place(group);
        if (at.row >= height) return {};
        return load_run<uint8_t, SIZE * CHANNELS>(pixels_at(at), elements_from(at.column, width, SIZE) * CHANNELS);
    }

    HD void store(int64_t group, const Group& loaded) const {
        const Place at = place(group);
        if (at.row >= height) return;
        Group sums = loaded;
        UNROLLED
        for (int block = 0; block < BLOCKS; ++block)
            if (at.column + block * SIDE < width) add_row(sums, at, block);
        store_run(pixels_at(at), sums, elements_from(at.column, width, SIZE) * CHANNELS);
    }

    // Adds a row of the first or second block of a group.
    HD void add_row(Group& sums, Place at, int block) const {
        const int64_t blocks_of_axis = block_rows() * groups_of(width, SIDE);
        const int64_t first = at.image * AXES * blocks_of_axis + at.row / SIDE * groups_of(width, SIDE);
        const int32_t* of_block = coefficients + (first + at.column / SIDE + block) * COEFFICIENTS;
        const ResidualRow residual = residual_row_of(of_block, blocks_of_axis * COEFFICIENTS, at.row % SIDE);
        UNROLLED
        for (int i = 0; i < SIDE; ++i) {
            UNROLLED
            for (int channel = 0; channel < COLOUR_CHANNELS; ++channel) {
                const int element = (block * SIDE + i) * CHANNELS + channel;
                const int32_t sum = sums.get(element) + residual.channels[channel].at[i];
                sums.set(element, static_cast<uint8_t>(clamped(sum, 0, 255)));
            }
        }
    }

    HD uint8_t* pixels_at(Place at) const {
        return pixels + at.image * image_stride + at.row * row_stride + int64_t{at.column} * CHANNELS;
    }
};

LARGE_KERNEL add_residual_rgb(
    const int32_t* coefficients, uint8_t* pixels, int64_t image_stride, int64_t row_stride, int64_t images, int32_t height,
    int32_t width) {
    run<1>(AddResidual<3>{coefficients, pixels, image_stride, row_stride, images, height, width});
}

LARGE_KERNEL add_residual_rgba(
    const int32_t* coefficients, uint8_t* pixels, int64_t image_stride, int64_t row_stride, int64_t images, int32_t height,
    int32_t width) {
    run<1>(AddResidual<4>{coefficients, pixels, image_stride, row_stride, images, height, width});
}
