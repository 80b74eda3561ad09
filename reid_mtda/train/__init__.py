"""The adaptation algorithms: one file and one visible loop each."""
