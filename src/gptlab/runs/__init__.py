"""Files of runs and studies: records, checkpoints, trackers, fingerprints."""
