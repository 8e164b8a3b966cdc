// Largest errors of the elementary functions in units in the last place, over all floats whose bit pattern is
// a multiple of the first argument (default 31; 1 is exhaustive: some minutes), against the double library,
// and over as many doubles, against that of long double. Also: a lane of a vector must give the bits of the
// scalar. A second argument "finite" says that the functions were compiled with -ffast-math: then nothing is
// promised for NaN or about single bits, and g++ takes vector versions of the double library, right to 4
// units.
#include <cstdint>
#include <cstring>
#include <map>
#include <string>

#include "check.hpp"
#include "math_functions.hpp"

namespace {
constexpr std::size_t kBlock = 4096;

template <class T>
struct Format;
template <>
struct Format<float> {
  using Bits = std::uint32_t;
  using Wide = double;
  static constexpr int digits = 24, least = -126;
  static constexpr std::uint64_t patterns = 0x100000000ull;
};
template <>
struct Format<double> {
  using Bits = std::uint64_t;
  using Wide = long double;
  static constexpr int digits = 53, least = -1022;
  static constexpr std::uint64_t patterns = 0x100000000ull;  // of the upper half; the lower one is made up
};

template <class T>
T from_bits(typename Format<T>::Bits u) {
  T x;
  std::memcpy(&x, &u, sizeof x);
  return x;
}
template <class T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

template <class T>
using Wide = typename Format<T>::Wide;

template <class T>
Wide<T> ulp(Wide<T> reference) {
  const Wide<T> a = std::abs(reference);
  const int top = std::numeric_limits<T>::max_exponent - Format<T>::digits, bottom = Format<T>::least + 1;
  if (!(a <= Wide<T>(std::numeric_limits<T>::max()))) return std::ldexp(Wide<T>(1), top);
  if (a < Wide<T>(std::numeric_limits<T>::min())) return std::ldexp(Wide<T>(1), bottom - Format<T>::digits);
  return std::ldexp(Wide<T>(1), std::ilogb(a) + 1 - Format<T>::digits);
}

/// Units in the last place between a result and what it should be; negative where one only is NaN.
template <class T>
double error(T y, Wide<T> want) {
  if (std::isnan(want) || std::isnan(y)) return std::isnan(want) == std::isnan(y) ? 0 : -1;
  const T rounded = static_cast<T>(want);
  if (std::isinf(rounded) && rounded == y) return 0;
  const Wide<T> limit = std::ldexp(Wide<T>(1), std::numeric_limits<T>::max_exponent);
  const Wide<T> a = std::isinf(y) ? std::copysign(limit, Wide<T>(y)) : Wide<T>(y);
  const Wide<T> b = std::isinf(rounded) ? std::copysign(limit, want) : want;
  return double(std::abs(a - b) / ulp<T>(b));
}

template <class T>
struct Reference {
  double limit;
  Wide<T> (*of)(Wide<T>);
};

template <class T>
void measure(const Measured<T>& f, const Reference<T>& reference, std::uint64_t step, bool finite) {
  static T x[kBlock], y[kBlock], scalar[kBlock];
  double worst = 0, at = 0;
  for (std::uint64_t first = 0; first < Format<T>::patterns; first += kBlock * step) {
    for (std::size_t l = 0; l < kBlock; ++l) {
      std::uint64_t u = first + l * step;
      // Every second double has a long significand, the others a short one.
      if (sizeof(T) == 8) u = u << 32 | (l % 2 ? u * 0x9e3779b9u & 0xffffffffu : 0u);
      x[l] = from_bits<T>(static_cast<typename Format<T>::Bits>(u));
    }
    f.lanes(x, y, kBlock);
    f.scalars(x, scalar, kBlock);
    for (std::size_t l = 0; l < kBlock; ++l) {
      if (finite && std::isnan(x[l])) continue;
      if (!finite && !same_bits(scalar[l], y[l]) && !(std::isnan(scalar[l]) && std::isnan(y[l])))
        check::fail("%s(%a): scalar %a, vector %a", f.name, double(x[l]), double(scalar[l]), double(y[l]));
      const double e = error(y[l], reference.of(Wide<T>(x[l])));
      if (e < 0)
        check::fail("%s(%a) = %a, want %a", f.name, double(x[l]), double(y[l]),
                    double(reference.of(Wide<T>(x[l]))));
      if (e > worst) worst = e, at = double(x[l]);
    }
  }
  std::printf("%-6s %-12s %8.3f ulp at %a = %g\n", sizeof(T) == 4 ? "float" : "double", f.name, worst, at,
              at);
  const double limit = finite && sizeof(T) == 8 && reference.limit > 0.5 ? 4 : reference.limit;
  if (worst > limit) check::fail("%s is off by more than %g ulp", f.name, limit);
}

template <class W>
W sigmoid(W x) {
  const W e = std::exp(-std::abs(x));
  return (x < 0 ? e : W(1)) / (1 + e);
}
template <class W>
W softplus(W x) {
  return std::isnan(x) ? x : (x > 0 ? x : W(0)) + std::log1p(std::exp(-std::abs(x)));
}
template <class W>
W softsign(W x) {
  return std::isinf(x) ? std::numeric_limits<W>::quiet_NaN() : x / (1 + std::abs(x));
}

/// The functions in wider arithmetic, and the errors that are allowed.
template <class T>
std::map<std::string, Reference<T>> references() {
  using W = Wide<T>;
  const bool narrow = sizeof(T) == 4;
  const auto limit = [&](double floats, double doubles) { return narrow ? floats : doubles; };
  return {
      {"exp", {limit(1.5, 1), [](W x) { return std::exp(x); }}},
      {"exp2", {limit(1.5, 1), [](W x) { return std::exp2(x); }}},
      {"expm1", {limit(1.6, 1), [](W x) { return std::expm1(x); }}},
      {"log", {limit(2, 1), [](W x) { return std::log(x); }}},
      {"log1p", {limit(2.5, 1), [](W x) { return std::log1p(x); }}},
      {"tanh", {limit(2.5, 2), [](W x) { return std::tanh(x); }}},
      {"sigmoid", {2.5, [](W x) { return sigmoid(x); }}},
      {"erf", {limit(2, 1.5), [](W x) { return std::erf(x); }}},
      {"two_plus_erf", {limit(1.6, 1), [](W x) { return 2 + std::erf(x); }}},
      {"one_plus_cdf", {1.6, [](W x) { return 1 + std::erfc(x * -std::sqrt(W(0.5))) / 2; }}},
      {"normal_cdf", {limit(0, 1), [](W x) { return std::erfc(x * -std::sqrt(W(0.5))) / 2; }}},
      {"softplus", {limit(2.5, 2), [](W x) { return softplus(x); }}},
      {"softsign", {1.5, [](W x) { return softsign(x); }}},
      {"sqrt", {0.5, [](W x) { return std::sqrt(x); }}},
      {"rsqrt", {1.5, [](W x) { return 1 / std::sqrt(x); }}},
      {"reciprocal", {0.5, [](W x) { return 1 / x; }}},
      {"sin", {limit(2.2, 1), [](W x) { return std::sin(x); }}},
      {"cos", {limit(2.2, 1), [](W x) { return std::cos(x); }}},
      {"floor", {0, [](W x) { return std::floor(x); }}},
      {"ceil", {0, [](W x) { return std::ceil(x); }}},
      {"trunc", {0, [](W x) { return std::trunc(x); }}},
      {"round", {0, [](W x) { return std::nearbyint(x); }}},
      {"abs", {0, [](W x) { return std::abs(x); }}},
      {"sign", {0, [](W x) { return x > 0   ? W(1)
                                    : x < 0 ? W(-1)
                                            : x; }}},
  };
}
template <class T>
void measure_all(const std::vector<Measured<T>>& functions, std::uint64_t step, bool finite) {
  const auto known = references<T>();
  for (const Measured<T>& f : functions) measure(f, known.at(f.name), step, finite);
}
}  // namespace

int main(int argc, char** argv) {
  const auto step = static_cast<std::uint64_t>(argc > 1 ? std::atoi(argv[1]) : 31);
  const bool finite = argc > 2 && std::string(argv[2]) == "finite";
  measure_all(float_functions(), step, finite);
  measure_all(double_functions(), step * 16, finite);
  return check::done("math_accuracy");
}
