"""Offline jobs, one function per command: load, call in order, record, resume at the first missing output."""
