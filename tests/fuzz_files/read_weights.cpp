// Reads weights as a generated header does, many files in one process, for AddressSanitizer to watch.
//
// Standard input holds files, each after its number of bytes (u64). Per file there is a line of output: the
// sum of all elements that a header would read, or why the file was refused.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sofie/core/weights.hxx>

struct half {
  static constexpr unsigned onnx = 10;
  unsigned short bits;
};

/// All bytes of a tensor, read one by one.
template <class T>
unsigned long sum(const T* p, std::size_t n) {
  unsigned long total = 0;
  const unsigned char* bytes = reinterpret_cast<const unsigned char*>(p);
  for (std::size_t k = 0; k < n * sizeof(T); ++k) total = total * 31 + bytes[k];
  return total;
}

unsigned long read(sofie::WeightsFile& file) {
  unsigned long total = sum(file.tensor<float>("a", {3, 5}), 15);
  total += sum(file.tensor<bool>("b", {2}), 2);
  total += sum(file.tensor<std::int64_t>("scalar", {}), 1);
  total += sum(file.tensor<double>("empty", {0, 4}), 0);
  total += sum(file.tensor<half>("h", {2}), 2);
  return total + sum(file.tensor<double>("big", {1000}), 1000);
}

int main(int, char** argv) {
  const std::string path = argv[1];
  std::uint64_t size;
  while (std::fread(&size, 1, 8, stdin) == 8) {
    // Memory of exactly this size, so that one byte too far is seen.
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, size ? size : 1) != 0) return 2;
    std::unique_ptr<unsigned char, void (*)(void*)> image(static_cast<unsigned char*>(memory), std::free);
    if (std::fread(image.get(), 1, size, stdin) != size) return 2;
    std::string in_memory, in_file;
    try {
      sofie::WeightsFile file(image.get(), size, MODEL_HASH);
      in_memory = std::to_string(read(file));
    } catch (const std::runtime_error& e) {
      in_memory = std::string("refused: ") + e.what();
    }
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(image.get()), long(size));
    try {
      sofie::WeightsFile file(path, MODEL_HASH);
      in_file = std::to_string(read(file));
    } catch (const std::runtime_error& e) {
      in_file = std::string("refused: ") + e.what();
    }
    const bool same = in_memory == in_file || (in_memory[0] == 'r' && in_file[0] == 'r');
    std::string line = same ? in_memory : "memory and file disagree: " + in_memory + " / " + in_file;
    for (char& c : line) c = c == '\n' ? ' ' : c;
    std::cout << line << std::endl;
  }
}
