// What this core can do at most: for profiles, which say how close a step comes to it.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sofie {
namespace peak {

using Clock = std::chrono::steady_clock;

inline double nanoseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::nano>(to - from).count();
}

#if defined(__AVX512F__)
constexpr std::size_t kBytes = 64;
#elif defined(__AVX__)
constexpr std::size_t kBytes = 32;
#else
constexpr std::size_t kBytes = 16;
#endif
typedef float Floats __attribute__((vector_size(kBytes)));
typedef std::uint64_t Words __attribute__((vector_size(kBytes)));

inline volatile float sink;

/// FMA peak of this core in GFLOP/s: independent chains, as many as registers allow.
inline double gflops(double seconds) {
  constexpr int kChains = kBytes == 64 ? 24 : 12;
  constexpr int kSteps = 4096;
  volatile float factor = 0.999f, term = 0.001f;
  const Floats x = Floats{} + factor, y = Floats{} + term;
  Floats chain[kChains];
  for (int c = 0; c < kChains; ++c) chain[c] = Floats{} + static_cast<float>(c);
  double best = 0;
  const auto begin = Clock::now();
  while (nanoseconds(begin, Clock::now()) < seconds * 1e9) {
    const auto start = Clock::now();
    for (int k = 0; k < kSteps; ++k) {
#pragma GCC unroll 32
      for (int c = 0; c < kChains; ++c) chain[c] = chain[c] * x + y;
    }
    const double flops = 2.0 * kSteps * kChains * static_cast<double>(kBytes / sizeof(float));
    const double rate = flops / nanoseconds(start, Clock::now());
    if (rate > best) best = rate;
  }
  Floats total{};
  for (int c = 0; c < kChains; ++c) total += chain[c];
  sink = total[0];
  return best;
}

/// How fast this core reads a block of that size again and again, in GB/s: what its cache level gives.
inline double read_gbytes(std::size_t bytes, double seconds) {
  constexpr std::size_t kStreams = 8;
  constexpr std::size_t kChunk = kStreams * kBytes;
  const std::size_t count = bytes / kChunk + 1;
  std::vector<unsigned char> memory(count * kChunk + 64, 1);
  const auto* words = reinterpret_cast<const Words*>(
      memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64);
  Words total[kStreams] = {};
  double best = 0;
  const auto begin = Clock::now();
  while (nanoseconds(begin, Clock::now()) < seconds * 1e9) {
    const std::size_t rounds = 1 + (std::size_t{1} << 20) / (count * kChunk);
    const auto start = Clock::now();
    for (std::size_t r = 0; r < rounds; ++r) {
      for (std::size_t k = 0; k < count; ++k) {
#pragma GCC unroll 8
        for (std::size_t s = 0; s < kStreams; ++s) total[s] ^= words[k * kStreams + s];
      }
      asm volatile("" ::: "memory");
    }
    const double moved = static_cast<double>(rounds * count * kChunk);
    const double rate = moved / nanoseconds(start, Clock::now());
    if (rate > best) best = rate;
  }
  for (std::size_t s = 1; s < kStreams; ++s) total[0] ^= total[s];
  sink = static_cast<float>(total[0][0]);
  return best;
}

}  // namespace peak
}  // namespace sofie
