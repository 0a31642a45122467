#include "instruction_sets.h"

#include <algorithm>
#include <atomic>
#include <cstring>

// Which sets of instructions this compiler can generate for this processor family. A set is chosen at run time, so that
// one build serves all processors of the family.
#if defined(__x86_64__) && defined(__GNUC__)
#define SDTRT_X86 1
#include <immintrin.h>
#endif

namespace sdtrt {

namespace portable {
constexpr const char* NAME = "portable";
constexpr int LANES = 4;

#ifdef __GNUC__
using Vec = int32_t __attribute__((vector_size(4 * LANES)));  // NEON on ARM, and what else the processor family has
#else
struct Vec {
    int32_t at[LANES];
    int32_t& operator[](int n) { return at[n]; }
    int32_t operator[](int n) const { return at[n]; }
};
#endif

// Returns a vector of operate(0), operate(1) and so on.
template <class Operate>
inline Vec lanes(const Operate& operate) {
    Vec vec;
    for (int n = 0; n < LANES; ++n) vec[n] = operate(n);
    return vec;
}

inline Vec zeros() {
    return lanes([](int) { return 0; });
}
inline Vec load(const void* from) {
    Vec vec;
    std::memcpy(&vec, from, sizeof vec);
    return vec;
}
inline void store(void* to, const Vec& vec) { std::memcpy(to, &vec, sizeof vec); }
template <class T>
inline Vec broadcast(const T* from) {
    int32_t value;
    std::memcpy(&value, from, sizeof value);
    return lanes([&](int) { return value; });
}
template <int SHIFT>
inline Vec shift_right(const Vec& vec) {
    return lanes([&](int n) { return vec[n] >> SHIFT; });
}
inline Vec limited(const Vec& vec) {
    return lanes([&](int n) { return std::min(std::max(vec[n], 0), LATENT_LIMIT); });
}
inline Vec pair_of(const Vec& first, const Vec& second) {
    return lanes([&](int n) { return first[n] | second[n] << 16; });
}
inline Vec either(const Vec& a, const Vec& b) {
    return lanes([&](int n) { return a[n] | b[n]; });
}
inline bool any(const Vec& vec) { return (vec[0] | vec[1] | vec[2] | vec[3]) != 0; }
inline Vec add_pair_products(const Vec& sum, const Vec& a, const Vec& b) {
#ifdef __GNUC__
    return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#else
    return lanes([&](int n) { return sum[n] + int16_t(a[n]) * int16_t(b[n]) + (a[n] >> 16) * (b[n] >> 16); });
#endif
}

#include "dct_kernels.inc"
#include "network_kernels.inc"
#include "pixel_kernels.inc"

const Kernels KERNELS = {NAME, BLOCK, run, to_contexts, planes_to_pixels, inverse_dct};
}  // namespace portable

#ifdef SDTRT_X86
namespace sse2 {
constexpr const char* NAME = "SSE2";
constexpr int LANES = 4;
using Vec = __m128i;

inline Vec zeros() { return _mm_setzero_si128(); }
inline Vec load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
inline Vec broadcast(const void* from) {
    int32_t value;
    std::memcpy(&value, from, sizeof value);
    return _mm_set1_epi32(value);
}
inline void store(void* to, Vec vec) { _mm_storeu_si128(static_cast<__m128i*>(to), vec); }
inline Vec add_pair_products(Vec sum, Vec a, Vec b) { return _mm_add_epi32(sum, _mm_madd_epi16(a, b)); }
template <int SHIFT>
inline Vec shift_right(Vec vec) {
    return _mm_srai_epi32(vec, SHIFT);
}
inline Vec limited(Vec vec) {
    const Vec limit = _mm_set1_epi32(LATENT_LIMIT), above = _mm_cmpgt_epi32(vec, limit);
    const Vec not_above = _mm_or_si128(_mm_and_si128(above, limit), _mm_andnot_si128(above, vec));
    return _mm_and_si128(not_above, _mm_cmpgt_epi32(not_above, zeros()));
}
inline Vec pair_of(Vec first, Vec second) { return _mm_or_si128(first, _mm_slli_epi32(second, 16)); }
inline Vec either(Vec a, Vec b) { return _mm_or_si128(a, b); }
inline bool any(Vec vec) { return _mm_movemask_epi8(_mm_cmpeq_epi8(vec, zeros())) != 0xFFFF; }

#include "dct_kernels.inc"
#include "network_kernels.inc"
#include "pixel_kernels.inc"

const Kernels KERNELS = {NAME, BLOCK, run, to_contexts, planes_to_pixels, inverse_dct};
}  // namespace sse2

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
namespace avx2 {
constexpr const char* NAME = "AVX2";
constexpr int LANES = 8;
using Vec = __m256i;

inline Vec zeros() { return _mm256_setzero_si256(); }
inline Vec load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline Vec broadcast(const void* from) {
    int32_t value;
    std::memcpy(&value, from, sizeof value);
    return _mm256_set1_epi32(value);
}
inline void store(void* to, Vec vec) { _mm256_storeu_si256(static_cast<__m256i*>(to), vec); }
inline Vec add_pair_products(Vec sum, Vec a, Vec b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
template <int SHIFT>
inline Vec shift_right(Vec vec) {
    return _mm256_srai_epi32(vec, SHIFT);
}
inline Vec limited(Vec vec) {
    return _mm256_min_epi32(_mm256_max_epi32(vec, zeros()), _mm256_set1_epi32(LATENT_LIMIT));
}
inline Vec pair_of(Vec first, Vec second) { return _mm256_or_si256(first, _mm256_slli_epi32(second, 16)); }
inline Vec either(Vec a, Vec b) { return _mm256_or_si256(a, b); }
inline bool any(Vec vec) { return !_mm256_testz_si256(vec, vec); }

#include "dct_kernels.inc"
#include "network_kernels.inc"
#include "pixel_kernels.inc"

const Kernels KERNELS = {NAME, BLOCK, run, to_contexts, planes_to_pixels, inverse_dct};
}  // namespace avx2
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni")
#endif
namespace avx512 {
constexpr const char* NAME = "AVX-512 VNNI";
constexpr int LANES = 16;
using Vec = __m512i;

inline Vec zeros() { return _mm512_setzero_si512(); }
inline Vec load(const void* from) { return _mm512_loadu_si512(from); }
inline Vec broadcast(const void* from) {
    int32_t value;
    std::memcpy(&value, from, sizeof value);
    return _mm512_set1_epi32(value);
}
inline void store(void* to, Vec vec) { _mm512_storeu_si512(to, vec); }
inline Vec add_pair_products(Vec sum, Vec a, Vec b) { return _mm512_dpwssd_epi32(sum, a, b); }
template <int SHIFT>
inline Vec shift_right(Vec vec) {
    return _mm512_srai_epi32(vec, SHIFT);
}
inline Vec limited(Vec vec) {
    return _mm512_min_epi32(_mm512_max_epi32(vec, zeros()), _mm512_set1_epi32(LATENT_LIMIT));
}
inline Vec pair_of(Vec first, Vec second) { return _mm512_or_si512(first, _mm512_slli_epi32(second, 16)); }
inline Vec either(Vec a, Vec b) { return _mm512_or_si512(a, b); }
inline bool any(Vec vec) { return _mm512_test_epi32_mask(vec, vec) != 0; }

#include "dct_kernels.inc"
#include "network_kernels.inc"
#include "pixel_kernels.inc"

const Kernels KERNELS = {NAME, BLOCK, run, to_contexts, planes_to_pixels, inverse_dct};
}  // namespace avx512
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

const std::vector<const Kernels*>& available_kernels() {
    static const std::vector<const Kernels*> available = [] {
        std::vector<const Kernels*> sets = {&portable::KERNELS};
#ifdef SDTRT_X86
        __builtin_cpu_init();
        sets.push_back(&sse2::KERNELS);
        if (__builtin_cpu_supports("avx2")) sets.push_back(&avx2::KERNELS);
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
            sets.push_back(&avx512::KERNELS);
        }
#endif
        return sets;
    }();
    return available;
}

static std::atomic<const Kernels*>& kernels_in_use() {
    static std::atomic<const Kernels*> in_use{available_kernels().back()};
    return in_use;
}

const Kernels& kernels() { return *kernels_in_use(); }

bool use_kernels(const std::string& name) {
    for (const Kernels* set : available_kernels()) {
        if (name == set->name) {
            kernels_in_use() = set;
            return true;
        }
    }
    return false;
}

}  // namespace sdtrt
