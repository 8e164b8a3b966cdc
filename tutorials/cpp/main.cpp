// How long does one jet take? For those who must answer in microseconds.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "tagger.hxx"

int main() {
  constexpr std::size_t inputs = 16, jets = 1000, rounds = 200;
  // Where nine of ten jets lie; the columns are named in ../features.py.
  const float low[inputs] = {394,   -1.6f, 35,    25,    0.04f, 0.13f, 0.72f, 0.01f,
                             0.09f, 0.25f, 0.01f, 0.16f, 0.10f, 0.73f, 0.12f, 21};
  const float high[inputs] = {731,   1.6f,  143,   143,   0.38f, 0.93f, 0.92f, 0.47f,
                              0.78f, 0.41f, 0.16f, 0.61f, 0.27f, 7.9f,  0.33f, 36};
  std::mt19937 random(1);
  std::vector<float> columns(jets * inputs), scores(jets);
  for (std::size_t i = 0; i < columns.size(); ++i)
    columns[i] = std::uniform_real_distribution<float>(low[i % inputs], high[i % inputs])(random);

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
