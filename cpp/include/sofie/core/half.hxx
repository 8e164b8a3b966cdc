// 16-bit floats as storage: IEEE binary16 and bfloat16, computed in float.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <cstring>

namespace sofie {

/// The upper half of a float, rounded to nearest even.
struct bfloat16 {
  static constexpr std::uint32_t onnx = 16;
  std::uint16_t bits;

  bfloat16() = default;
  explicit bfloat16(float x) {
    std::uint32_t u;
    std::memcpy(&u, &x, sizeof u);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    const std::uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u);
    bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40u : rounded >> 16);
  }
  operator float() const {
    const std::uint32_t u = static_cast<std::uint32_t>(bits) << 16;
    float x;
    std::memcpy(&x, &u, sizeof x);
    return x;
  }
};

/// IEEE 754 binary16, rounded to nearest even.
struct float16 {
  static constexpr std::uint32_t onnx = 10;
  std::uint16_t bits;

  float16() = default;
  explicit float16(float x) {
    std::uint32_t u;
    std::memcpy(&u, &x, sizeof u);
    const std::uint32_t sign = (u >> 16) & 0x8000u;
    u &= 0x7fffffffu;
    std::uint32_t h;
    if (u > 0x7f800000u) {
      h = 0x7e00u;  // NaN
    } else if (u >= 0x477ff000u) {
      h = 0x7c00u;  // rounds to infinity
    } else if (u < 0x38800000u) {
      // Subnormal: adding 0.5 puts the result into the low bits of the float, rounded by the hardware.
      float magnitude, half = 0.5f;
      std::memcpy(&magnitude, &u, sizeof u);
      magnitude += half;
      std::memcpy(&u, &magnitude, sizeof u);
      h = u - 0x3f000000u;
    } else {
      h = (u - 0x38000000u + 0xfffu + ((u >> 13) & 1u)) >> 13;
    }
    bits = static_cast<std::uint16_t>(sign | h);
  }
  operator float() const {
    const std::uint32_t magnitude = bits & 0x7fffu;
    // A subnormal counts steps of 2^-24. (Moving its exponent as that of the others would make a subnormal
    // float on the way, which a program that is linked with -ffast-math takes for 0.)
    const float steps = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24f;
    std::uint32_t subnormal;
    std::memcpy(&subnormal, &steps, sizeof steps);
    const std::uint32_t moved = (magnitude << 13) + ((magnitude < 0x7c00u ? 112u : 224u) << 23);
    // Chosen without a branch, so that loops become vectors.
    const std::uint32_t small = 0u - static_cast<std::uint32_t>(magnitude < 0x400u);
    std::uint32_t u = (subnormal & small) | (moved & ~small);
    u |= static_cast<std::uint32_t>(bits & 0x8000u) << 16;
    float x;
    std::memcpy(&x, &u, sizeof x);
    return x;
  }
};

}  // namespace sofie
