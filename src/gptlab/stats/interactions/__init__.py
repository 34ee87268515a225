"""Interactions of two axes of a grid: do two changes do together what each does alone?"""
