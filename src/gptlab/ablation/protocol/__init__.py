"""What holds a study to its word: a plan registered before the first run, and a campaign's share of one alpha."""
