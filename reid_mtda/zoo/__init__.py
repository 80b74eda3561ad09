"""Ready-made networks: the table of them, downloads that are checked, and the folder they are kept in."""
