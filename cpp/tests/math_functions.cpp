// See math_functions.hpp.
#include "math_functions.hpp"

#include <sofie/cpu/math.hxx>

namespace {
#define SOFIE_FUNCTION(name)                   \
  struct name##_ {                             \
    static constexpr const char* text = #name; \
    template <class V>                         \
    SOFIE_INLINE static V of(V x) {            \
      return sofie::name(x);                   \
    }                                          \
  };
SOFIE_FUNCTION(exp)
SOFIE_FUNCTION(exp2)
SOFIE_FUNCTION(expm1)
SOFIE_FUNCTION(log)
SOFIE_FUNCTION(log1p)
SOFIE_FUNCTION(tanh)
SOFIE_FUNCTION(sigmoid)
SOFIE_FUNCTION(erf)
SOFIE_FUNCTION(normal_cdf)
SOFIE_FUNCTION(softplus)
SOFIE_FUNCTION(softsign)
SOFIE_FUNCTION(sqrt)
SOFIE_FUNCTION(rsqrt)
SOFIE_FUNCTION(reciprocal)
SOFIE_FUNCTION(sin)
SOFIE_FUNCTION(cos)
SOFIE_FUNCTION(floor)
SOFIE_FUNCTION(ceil)
SOFIE_FUNCTION(trunc)
SOFIE_FUNCTION(round)
SOFIE_FUNCTION(abs)
SOFIE_FUNCTION(sign)
// Only an absolute error is promised: with 1 added, a unit in the last place is 1.2e-7 everywhere.
struct one_plus_cdf_ {
  static constexpr const char* text = "one_plus_cdf";
  template <class V>
  SOFIE_INLINE static V of(V x) {
    return sofie::normal_cdf(x) + (V{} + 1);
  }
};
struct two_plus_erf_ {
  static constexpr const char* text = "two_plus_erf";
  template <class V>
  SOFIE_INLINE static V of(V x) {
    return sofie::one_plus_erf(x) + (V{} + 1);
  }
};

template <class F>
void lanes(const float* x, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; i += sofie::kLanes) {
    sofie::store(y, sofie::Full{i}, F::of(sofie::load(x, sofie::Full{i})));
  }
}
template <class F, class T>
void scalars(const T* x, T* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = F::of(x[i]);
}
template <class... F>
std::vector<Measured<float>> floats() {
  return {{F::text, lanes<F>, scalars<F, float>}...};
}
template <class... F>
std::vector<Measured<double>> doubles() {
  return {{F::text, scalars<F, double>, scalars<F, double>}...};
}
}  // namespace

std::vector<Measured<float>> float_functions() {
  return floats<exp_, exp2_, expm1_, log_, log1p_, tanh_, sigmoid_, erf_, two_plus_erf_, one_plus_cdf_,
                softplus_, softsign_, sqrt_, rsqrt_, reciprocal_, sin_, cos_, floor_, ceil_, trunc_, round_,
                abs_, sign_>();
}
std::vector<Measured<double>> double_functions() {
  return doubles<exp_, exp2_, expm1_, log_, log1p_, tanh_, sigmoid_, erf_, two_plus_erf_, normal_cdf_,
                 softplus_, softsign_, sqrt_, rsqrt_, reciprocal_, sin_, cos_, floor_, ceil_, trunc_, round_,
                 abs_, sign_>();
}
