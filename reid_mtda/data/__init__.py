"""Sets on disk become typed sets and batches."""
