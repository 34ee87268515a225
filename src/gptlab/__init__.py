"""gptlab: one GPT decoder whose every part is a Hydra choice, its trainer, and an ablation engine."""
