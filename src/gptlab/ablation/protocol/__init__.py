"""Promises of a study: a plan registered before the first run, and a campaign's share of one alpha."""
