"""A drawn street: people, cameras and scenes that can be made anywhere, with their truth."""
