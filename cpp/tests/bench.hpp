// The stopwatch of the benchmarks.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

namespace bench {
/// Prints the median time of one call of f in microseconds, and the rate if it does `flops` operations.
template <class F>
void time(const char* name, double flops, F f) {
  using clock = std::chrono::steady_clock;
  std::vector<double> t;
  const auto begin = clock::now();
  int inner = 1;
  while (clock::now() - begin < std::chrono::milliseconds(400)) {
    const auto a = clock::now();
    for (int i = 0; i < inner; ++i) {
      f();
      asm volatile("" ::: "memory");  // the results are wanted
    }
    t.push_back(std::chrono::duration<double, std::micro>(clock::now() - a).count() / inner);
    if (t.back() * inner < 20) inner *= 2;
  }
  std::sort(t.begin(), t.end());
  const double us = t[t.size() / 2];
  std::printf("%-36s %9.3f us %8.1f GFLOP/s\n", name, us, flops / us * 1e-3);
}
}  // namespace bench
