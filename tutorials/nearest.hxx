// A custom operator in C++: how far each particle is from its nearest neighbour.
// tutorials/custom_operator.py says how the model calls it.
#ifndef TUTORIAL_NEAREST_HXX
#define TUTORIAL_NEAREST_HXX

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <sofie/span.hxx>

namespace tutorial {

/// directions[jets, particles, (eta, phi)] -> distances[jets, particles], at most `limit`.
inline void nearest(sofie::Span<const float> directions, sofie::Span<float> distances, float limit) {
  const float pi = 3.14159265f;
  for (std::size_t jet = 0; jet < directions.dim(0); ++jet) {
    for (std::size_t i = 0; i < directions.dim(1); ++i) {
      float best = limit;
      for (std::size_t j = 0; j < directions.dim(1); ++j) {
        if (i == j) continue;
        const float eta = directions(jet, i, 0) - directions(jet, j, 0);
        float phi = std::fabs(directions(jet, i, 1) - directions(jet, j, 1));
        if (phi > pi) phi = 2 * pi - phi;
        best = std::min(best, std::sqrt(eta * eta + phi * phi));
      }
      distances(jet, i) = best;
    }
  }
}

}  // namespace tutorial

#endif
