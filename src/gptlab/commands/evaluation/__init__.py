"""Evaluation of a run on downstream tasks: lm-evaluation-harness's, and local files."""
