"""Sampling text from a decoder."""
