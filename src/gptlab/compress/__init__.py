"""Fewer bits for the same decoder: number formats, and what is done with them."""
