// The elementary functions that math_accuracy.cpp measures. They are compiled apart from it: with -ffast-math
// too, which whatever measures them must not be.
#pragma once
#include <cstddef>
#include <vector>

/// A function of numbers: `lanes` applies it to vectors of them, `scalars` to one after the other. n is a
/// multiple of 16.
template <class T>
struct Measured {
  const char* name;
  void (*lanes)(const T* x, T* y, std::size_t n);
  void (*scalars)(const T* x, T* y, std::size_t n);
};
std::vector<Measured<float>> float_functions();
std::vector<Measured<double>> double_functions();
