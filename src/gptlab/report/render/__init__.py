"""Drawings of a report: page, Markdown, LaTeX, terminal, W&B."""
