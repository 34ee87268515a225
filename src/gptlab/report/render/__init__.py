"""Renderers of a report: HTML page, Markdown, LaTeX, terminal, W&B."""
