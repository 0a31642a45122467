// Arithmetic of single values, with the same bits on every device, on the host, and in reference.py.
//
// Every operation is rounded by itself, in single precision, in the order of reference.py. That needs -fmad=false on the
// device, -ffp-contract=off on the host, and no fast math on either: see build.py.
//
// This file compiles as CUDA, and as plain C++17 for the tests.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define HD __host__ __device__ __forceinline__
#else
#define HD inline
#endif

// Bits of the word of flags; reference.py has the same names.
constexpr uint32_t NOT_FINITE = 1;
constexpr uint32_t SATURATED = 2;

constexpr float LARGEST_SYMBOL = 32766;

// A stored number of half precision. Arithmetic is in single precision.
struct Half {
    uint16_t bits;
};

template <class To, class From>
HD To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "both types must have the same size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

#ifndef __CUDA_ARCH__
// Returns value / 2^shift, rounded half to even; 1 <= shift <= 31.
inline uint32_t shift_right_to_even(uint32_t value, uint32_t shift) {
    const uint32_t odd = value >> shift & 1;
    return (value + (1u << (shift - 1)) - 1 + odd) >> shift;
}

inline uint16_t half_bits_on_host(float value) {
    const uint32_t bits = bit_cast<uint32_t>(value);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return 0x7FFF;  // the same NaN as by the conversion on a device
    if (magnitude >= 0x477FF000) return sign | 0x7C00;  // from 65520 on, halfway between the largest number and infinity
    if (magnitude >= 0x38800000) return sign | shift_right_to_even(magnitude - (112u << 23), 13);
    if (magnitude < 0x33000000) return sign;  // below half of the smallest subnormal number
    const uint32_t significand = (magnitude & 0x7FFFFF) | 0x800000;
    return sign | shift_right_to_even(significand, 126 - (magnitude >> 23));
}

inline float float_on_host(Half value) {
    const uint32_t sign = (value.bits & 0x8000u) << 16, exponent = value.bits >> 10 & 31, fraction = value.bits & 0x3FF;
    if (exponent == 0) return copysignf(fraction * 0x1p-24f, bit_cast<float>(sign));
    const uint32_t rebiased = exponent == 31 ? 255 : exponent + 112;
    return bit_cast<float>(sign | rebiased << 23 | fraction << 13);
}
#endif

HD float to_float(float value) { return value; }

HD float to_float(Half value) {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(value.bits));
#else
    return float_on_host(value);
#endif
}

// Conversion to float or Half, rounded half to even.
template <class T>
HD T from_float(float value);

template <>
HD float from_float<float>(float value) {
    return value;
}

template <>
HD Half from_float<Half>(float value) {
#ifdef __CUDA_ARCH__
    return {__half_as_ushort(__float2half_rn(value))};
#else
    return {half_bits_on_host(value)};
#endif
}

HD bool is_finite(float value) { return fabsf(value) <= FLT_MAX; }

// Returns the nearest integer, half to even; it must be within the range of int32_t.
HD int32_t nearest_integer(float value) {
#ifdef __CUDA_ARCH__
    return __float2int_rn(value);
#else
    return static_cast<int32_t>(lrintf(value));
#endif
}

HD void raise_flags(uint32_t* flags, uint32_t raised) {
#ifdef __CUDA_ARCH__
    if (raised) atomicOr(flags, raised);
#else
    *flags |= raised;
#endif
}
