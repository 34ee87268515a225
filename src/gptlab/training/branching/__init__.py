"""Runs of one recipe and several budgets that share a trunk."""
