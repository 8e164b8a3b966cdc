"""The operations that models are made of, one family in each module."""
