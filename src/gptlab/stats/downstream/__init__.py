"""Downstream tasks in a study: which of them can tell its arms apart."""
