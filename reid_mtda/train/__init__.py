"""The adaptation algorithms: one file and one visible loop each."""

from reid_mtda.train.dmmd import DmmdSettings, adapt_dmmd

METHODS = {"dmmd": (DmmdSettings, adapt_dmmd)}
"""Teacher methods by name: (settings class, function). A new method is one file and one line here."""
