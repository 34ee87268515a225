"""Terminal output, progress bars, units."""
