"""The selection kernel against a full sort, on every instruction set, its memory guarded on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpp_program import compile_program, run_program

PROGRAM = """
#include <sofie/cpu/top_k.hxx>

#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

struct Largest { static constexpr bool largest = true; };
struct Smallest { static constexpr bool largest = false; };

// NaN above all numbers, then by value, then by position.
template <class P>
bool before(const std::vector<float>& x, std::size_t a, std::size_t b) {
  const bool nan_a = x[a] != x[a], nan_b = x[b] != x[b];
  if (nan_a != nan_b) return P::largest ? nan_a : nan_b;
  if (!nan_a && x[a] != x[b]) return P::largest ? x[a] > x[b] : x[a] < x[b];
  return a < b;
}

template <class P>
bool right(const std::vector<float>& x, std::size_t k, std::size_t inner) {
  const std::size_t n = x.size();
  std::vector<float> spread(n * inner, 0.5f);
  for (std::size_t i = 0; i < n; ++i) spread[i * inner + inner - 1] = x[i];
  std::vector<float> values(k * inner);
  std::vector<std::int64_t> found(k * inner), workspace(3 * n + 80);
  sofie::top_k<P>(1, n, inner, k, spread.data(), values.data(), found.data(), workspace.data());
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return before<P>(x, a, b); });
  for (std::size_t j = 0; j < k; ++j) {
    const std::size_t at = j * inner + inner - 1;
    if (found[at] != static_cast<std::int64_t>(order[j])) return false;
    if (std::memcmp(&values[at], &x[order[j]], sizeof(float)) != 0) return false;
  }
  return true;
}

int main() {
  std::mt19937 random(1);
  const float special[] = {0.f, -0.f, 1.f, -1.f, std::nanf(""), -std::nanf(""), INFINITY, -INFINITY, 1e-42f};
  std::size_t checked = 0;
  for (std::size_t n : {1, 2, 3, 15, 16, 17, 31, 33, 55, 64, 65, 100, 127, 130, 255, 300, 700, 1500}) {
    for (std::size_t k : {1, 2, 7, 16, 17, 33, 64, 65, 128, 1500}) {
      if (k > n) k = n;
      for (int kind = 0; kind < 6; ++kind) {
        std::vector<float> x(n);
        for (float& v : x) {
          const auto r = random();
          if (kind == 0) v = std::normal_distribution<float>()(random);
          if (kind == 1) v = static_cast<float>(r % 5);                     // many ties
          if (kind == 2) v = special[r % 9];
          if (kind == 3) v = r % 4 ? std::nanf("") : -INFINITY;
          if (kind == 4) v = 2.f;                                           // nothing but ties
          if (kind == 5) v = static_cast<float>(&v - x.data()) * (r % 2 ? 1.f : -1.f);
        }
        for (std::size_t inner : {1, 3}) {
          if (!right<Largest>(x, k, inner) || !right<Smallest>(x, k, inner)) {
            std::printf("n %zu k %zu kind %d inner %zu", n, k, kind, inner);
            return 1;
          }
          ++checked;
        }
      }
    }
  }
  std::printf("%zu", checked);
}
"""


@pytest.mark.parametrize("isa", ["native", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_top_k_is_the_head_of_a_sort(isa: str, compiler: str, tmp_path: Path) -> None:
    flags = ["-O2", f"-march={isa}", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = compile_program(tmp_path, PROGRAM, flags, compiler)
    assert int(run_program(program)) == 18 * 10 * 6 * 2
