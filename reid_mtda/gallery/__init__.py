"""Who was seen where: SQLite holds the truth, FAISS answers."""
