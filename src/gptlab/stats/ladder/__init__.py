"""Verdicts over a ladder of sizes: does a gain hold when the model grows?"""
