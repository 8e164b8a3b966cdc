"""Measures sofie_root against other inference libraries: same model, same core, same minute."""
