"""Distillation objectives beside the loops' own: what a teacher's output may ask of a student, one noun a file."""
