"""Person re-identification that adapts itself, without labels, to every camera of a site."""

__version__ = "0.2.0"
