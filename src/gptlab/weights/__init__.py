"""Weights of a decoder: loaded, changed, rounded."""
