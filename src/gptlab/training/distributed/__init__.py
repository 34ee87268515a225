"""A run of several processes: their group, and what all but the first one do."""
