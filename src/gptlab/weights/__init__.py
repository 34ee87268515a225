"""What is done to a decoder's weights: load, change, round."""
