"""Networks that turn crops into embeddings, and their checkpoints."""
