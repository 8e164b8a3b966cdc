#include <iostream>

#include "tagger.hxx"

int main(int argc, char** argv) {
  const std::string weights = argc > 1 ? argv[1] : "tagger.dat";  // beside the header, by default
  TMVA_SOFIE_tagger::Session session(weights);
  const float x[2][3] = {{1, 2, 3}, {-1, 0, 1}};
  for (const float y : session.infer(2, x[0])) std::cout << y << "\n";
}
