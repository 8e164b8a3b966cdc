// The time that each step of a Session takes; only headers that are generated for a profile use it.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <chrono>
#include <cstddef>

namespace sofie {

/// Nanoseconds of each of N steps in the last call; a step lasts from the end of the one before it.
template <std::size_t N>
struct Profile {
  using Clock = std::chrono::steady_clock;

  double nanoseconds[N] = {};

  void start() { last_ = Clock::now(); }

  void step(std::size_t k) {
    const auto now = Clock::now();
    nanoseconds[k] = std::chrono::duration<double, std::nano>(now - last_).count();
    last_ = now;
  }

 private:
  Clock::time_point last_{};
};

}  // namespace sofie
