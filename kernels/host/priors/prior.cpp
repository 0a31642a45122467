#include "prior.h"

#include <cstdlib>

namespace sdtrt {

void Prior::check() const {
    const int channels = int(order.size());
    if (channels < 1 || channels > 255) throw std::invalid_argument("channels");
    for (int channel : order) {
        if (channel < 0 || channel >= channels) throw std::invalid_argument("order");
    }
    if (!tables || tables->rows() != NUM_SCALES * SUBSYMBOL_STEPS) throw std::invalid_argument("rows of tables");
    for (const Pass& pass : passes) {
        const bool is_stride = pass.stride == 2 || pass.stride == 4 || pass.stride == 8;
        if (pass.start < 0 || pass.stop <= pass.start || pass.stop > channels || !is_stride || pass.spacing < 1 ||
            pass.spacing > 255) {
            throw std::invalid_argument("pass");
        }
        for (const Offset& offset : pass.offsets) {
            const bool is_inside = offset.y >= 0 && offset.x >= 0 && offset.y < pass.stride && offset.x < pass.stride;
            if (!is_inside) throw std::invalid_argument("offset of a pass");
        }
    }
}

void check_window(const Window& window, int channels) {
    const bool is_within = std::abs(window.dy) <= MARGIN && std::abs(window.dx) <= MARGIN && window.first >= 0 &&
                           window.first < window.last && window.last <= channels;
    if (!is_within) throw std::invalid_argument("window");
}

}  // namespace sdtrt
