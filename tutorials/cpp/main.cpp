// How long does one jet take? For those who must answer in microseconds.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "tagger.hxx"

int main() {
  constexpr std::size_t inputs = 16, jets = 1000, rounds = 200;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> columns(jets * inputs), scores(jets);
  std::generate(columns.begin(), columns.end(), [&] { return normal(random); });

  TMVA_SOFIE_tagger::Session session;
  std::vector<double> times;  // per jet, one entry a round
  for (std::size_t round = 0; round < rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t jet = 0; jet < jets; ++jet) session.infer_to(&columns[jet * inputs], &scores[jet]);
    const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
    times.push_back(spent.count() / jets);
  }
  std::sort(times.begin(), times.end());
  std::printf("%.3f us per jet (median of %zu rounds; fastest %.3f, slowest %.3f)\n", times[rounds / 2],
              rounds, times.front(), times.back());
  std::printf("first scores: %.6f %.6f %.6f\n", scores[0], scores[1], scores[2]);
}
