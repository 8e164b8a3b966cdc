// The little that the C++ tests need: deterministic random numbers and one way to fail.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <type_traits>
#include <vector>

namespace check {
inline std::mt19937& rng() {
  static std::mt19937 g(12345);
  return g;
}
inline std::size_t below(std::size_t n) {
  return std::uniform_int_distribution<std::size_t>(0, n - 1)(rng());
}
template <class T>
std::vector<T> random(std::size_t n, double scale = 1.) {
  std::vector<T> v;
  v.reserve(n + 64);  // never a null pointer
  v.resize(n);
  std::uniform_real_distribution<double> d(std::is_signed<T>::value ? -scale : 0., scale);
  for (T& e : v) e = static_cast<T>(d(rng()));
  return v;
}
inline int failures = 0;
// Reports a failure, the first few in words.
template <class... A>
void fail(const char* format, A... a) {
  if (++failures <= 20) {
    std::printf("FAIL ");
    std::printf(format, a...);
    std::printf("\n");
  }
}
inline void fail(const char* text) { fail("%s", text); }
inline bool close(double a, double b, double tolerance) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b || std::abs(a - b) <= tolerance * (1. + std::abs(b));
}
inline int done(const char* name) {
  std::printf("%s: %s\n", name, failures ? "FAILED" : "ok");
  return failures != 0;
}
}  // namespace check
