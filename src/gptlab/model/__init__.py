"""The decoder and the slots it is built from."""
