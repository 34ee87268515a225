"""Search for the mapping between the names of two checkpoints."""
