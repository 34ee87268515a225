"""Recipes, types and factories of choices, without torch and hydra."""
