"""Studies over a ladder of sizes."""
