"""Loads generated headers and runs them: from numpy and in RDataFrame."""
