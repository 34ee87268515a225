"""Corpora that are read while training goes on: chunks of rows, their order, the windows of a step.

A run with a seed reads, epoch by epoch, the files in random order, the row groups of each in random order, and the
rows of each in their own. So many documents make a block, whose tokens are cut side by side into windows, which are
shuffled: each is learnt from once an epoch. The rows of a step are the next windows, so they depend on the seed and
the step alone, whatever was read before and by whom. Which block holds them follows from how many tokens each chunk
before has; these counts are kept in the cache folder, a line each, so that a resumed run reads nothing again.
"""
