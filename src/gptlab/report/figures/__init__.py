"""Figures of a report, as plain plotly JSON with their numbers and a sentence."""
