"""Sentences and tables of a report, as text that every renderer can escape."""
