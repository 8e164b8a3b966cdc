// Reads weights as a generated header does, and prints what it finds; tests/test_weights.py judges it.
//
// reader GOOD DIRECTORY BAD...
#include <cstring>
#include <iostream>
#include <thread>
#ifdef WITH_ROOT
#include <sofie/core/weights_root.hxx>
constexpr auto read_bytes = sofie::read_root_weights;
#else
#include <sofie/core/weights.hxx>
constexpr auto read_bytes = sofie::read_weights;
#endif

struct half {
  static constexpr unsigned onnx = 10;
  unsigned short bits;
};

struct Weights {
  sofie::WeightsFile file;
  const float* a;
  const bool* b;
  const std::int64_t* scalar;
  const double* empty;
  const half* h;
  explicit Weights(const std::string& path)
      : file(path, MODEL_HASH, read_bytes),
        a(file.tensor<float>("a", {3, 5})),
        b(file.tensor<bool>("b", {2})),
        scalar(file.tensor<std::int64_t>("scalar", {})),
        empty(file.tensor<double>("empty", {0, 4})),
        h(file.tensor<half>("h", {2})) {}
};

template <class F>
void report(F f) {
  try {
    f();
    std::cout << "ok";
  } catch (const std::runtime_error& e) {
    std::cout << e.what();
  }
  std::cout << std::endl;
}

int main(int argc, char** argv) {
  const std::string good = argv[1];
  {
    auto w = sofie::shared_weights<Weights>(good);
    for (int k = 0; k < 15; ++k) std::cout << w->a[k] << " ";
    std::cout << w->b[0] << w->b[1] << " " << *w->scalar << " " << w->h[1].bits << std::endl;
    const bool aligned = reinterpret_cast<std::uintptr_t>(w->a) % 64 == 0;
    std::shared_ptr<const Weights> other[4];
    std::thread threads[4];
    for (int k = 0; k < 4; ++k)
      threads[k] = std::thread([&, k] { other[k] = sofie::shared_weights<Weights>(good); });
    for (auto& t : threads) t.join();
    bool same = true;
    for (auto& o : other) same = same && o == w;
    std::cout << aligned << same << std::endl;
  }
  sofie::WeightsFile file(good, MODEL_HASH, read_bytes);
  report([&] { file.tensor<double>("a", {3, 5}); });
  report([&] { file.tensor<float>("a", {5, 3}); });
  report([&] { file.tensor<float>("a", {}); });
  report([&] { file.tensor<float>("nobody", {1}); });
  report([&] { sofie::WeightsFile(good, "00", read_bytes); });
  const auto copy = read_bytes(good);
  report([&] { sofie::WeightsFile(copy.data.get(), copy.size, MODEL_HASH).tensor<bool>("b", {2}); });
  report([&] { sofie::WeightsFile(copy.data.get(), copy.size - 64, MODEL_HASH); });
  std::cout << sofie::find_weights("m.dat", (std::string(argv[2]) + "/m.hxx").c_str()) << std::endl;
  std::cout << sofie::find_weights("none.dat", __FILE__) << std::endl;
  for (int k = 3; k < argc; ++k) report([&] { sofie::WeightsFile(argv[k], MODEL_HASH, read_bytes); });
}
