#include <iostream>

#include "tagger.hxx"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  TMVA_SOFIE_tagger::Session session(argv[1]);
  const float x[2][3] = {{1, 2, 3}, {-1, 0, 1}};
  for (const float y : session.infer(2, x[0])) std::cout << y << "\n";
}
