"""Data pipeline: text to tokens to batches."""
