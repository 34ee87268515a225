"""A whole training step as a CUDA graph: trainer.cuda_graph=true. Never yet run on a GPU."""
