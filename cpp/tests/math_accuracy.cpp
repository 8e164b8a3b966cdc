// Largest errors of the elementary functions in units in the last place, against the double library rounded
// to float, over all floats whose bit pattern is a multiple of the first argument (default 31; 1 is
// exhaustive: some minutes). Also: a lane of a vector must give the bits of the scalar.
#include <cstring>
#include <sofie/math.hxx>

#include "check.hpp"

namespace {
double ulp(double reference) {
  const double a = std::abs(reference);
  if (a >= 0x1p128) return 0x1p104;
  if (a < 0x1p-126) return 0x1p-149;
  return std::ldexp(1., std::ilogb(a) - 23);
}

template <class F, class R>
void measure(const char* name, std::uint32_t step, double limit, F f, R reference) {
  double worst = 0, at = 0;
  std::uint32_t block[sofie::kLanes];
  const std::uint64_t per = sofie::kLanes * std::uint64_t(step);
  for (std::uint64_t first = 0; first < 0x100000000ull; first += per) {
    float x[sofie::kLanes], y[sofie::kLanes];
    for (std::size_t l = 0; l < sofie::kLanes; ++l) {
      block[l] = static_cast<std::uint32_t>(first + l * step);
      x[l] = sofie::from_bits(block[l]);
    }
    sofie::store(y, sofie::Full{0}, f(sofie::load(x, sofie::Full{0})));
    for (std::size_t l = 0; l < sofie::kLanes; ++l) {
      const float scalar = f(x[l]);
      if (sofie::to_bits(scalar) != sofie::to_bits(y[l]) && !(scalar != scalar && y[l] != y[l]))
        check::fail("%s(%a): scalar %a, vector %a", name, double(x[l]), double(scalar), double(y[l]));
      const double want = reference(double(x[l]));
      const float rounded = static_cast<float>(want);
      double error = 0;
      if (std::isnan(want) != std::isnan(y[l])) {
        check::fail("%s(%a) = %a, want %a", name, double(x[l]), double(y[l]), want);
      } else if (std::isnan(want) || rounded == y[l]) {
        error = std::isinf(rounded) || std::isnan(want) ? 0 : std::abs(double(y[l]) - want) / ulp(want);
      } else if (std::isinf(rounded) || std::isinf(y[l])) {
        const double a = std::isinf(rounded) ? std::copysign(0x1p128, rounded) : double(rounded);
        const double b = std::isinf(y[l]) ? std::copysign(0x1p128, y[l]) : double(y[l]);
        error = std::abs(a - b) / ulp(a);
      } else {
        error = std::abs(double(y[l]) - want) / ulp(want);
      }
      if (error > worst) worst = error, at = double(x[l]);
    }
  }
  std::printf("%-10s %8.3f ulp at %a = %g\n", name, worst, at, at);
  if (worst > limit) check::fail("%s is off by more than %g ulp", name, limit);
}
}  // namespace

#define SOFIE_MEASURE(name, limit, ...) \
  measure(#name, step, limit, [](auto x) SOFIE_INLINE { return sofie::name(x); }, __VA_ARGS__)

int main(int argc, char** argv) {
  const auto step = static_cast<std::uint32_t>(argc > 1 ? std::atoi(argv[1]) : 31);
  using D = double;
  SOFIE_MEASURE(exp, 1.5, [](D x) { return std::exp(x); });
  SOFIE_MEASURE(exp2, 1.5, [](D x) { return std::exp2(x); });
  SOFIE_MEASURE(expm1, 1.6, [](D x) { return std::expm1(x); });
  SOFIE_MEASURE(log, 2, [](D x) { return std::log(x); });
  SOFIE_MEASURE(log1p, 2.5, [](D x) { return std::log1p(x); });
  SOFIE_MEASURE(tanh, 2.5, [](D x) { return std::tanh(x); });
  SOFIE_MEASURE(sigmoid, 2.5, [](D x) { return sofie::sigmoid(x); });
  SOFIE_MEASURE(erf, 2, [](D x) { return std::erf(x); });
  // Only an absolute error is promised: one added, so that a unit in the last place is 1.2e-7.
  measure(
      "one_plus_erf", step, 1.6, [](auto x) SOFIE_INLINE { return sofie::one_plus_erf(x) + 1.f; },
      [](D x) { return 2 + std::erf(x); });
  SOFIE_MEASURE(softplus, 2.5, [](D x) { return sofie::softplus(x); });
  SOFIE_MEASURE(softsign, 1.5, [](D x) { return sofie::softsign(x); });
  SOFIE_MEASURE(sqrt, 0.5, [](D x) { return std::sqrt(x); });
  SOFIE_MEASURE(rsqrt, 1.5, [](D x) { return 1 / std::sqrt(x); });
  SOFIE_MEASURE(sin, 2.2, [](D x) { return std::sin(x); });
  SOFIE_MEASURE(cos, 2.2, [](D x) { return std::cos(x); });
  SOFIE_MEASURE(floor, 0, [](D x) { return std::floor(x); });
  SOFIE_MEASURE(ceil, 0, [](D x) { return std::ceil(x); });
  SOFIE_MEASURE(trunc, 0, [](D x) { return std::trunc(x); });
  SOFIE_MEASURE(round, 0, [](D x) { return std::nearbyint(x); });
  SOFIE_MEASURE(abs, 0, [](D x) { return std::fabs(x); });
  SOFIE_MEASURE(sign, 0, [](D x) { return sofie::sign(x); });
  return check::done("math_accuracy");
}
