"""Every refusal this package makes on purpose, one family per cause.

A message reads *where: what was wrong, got X, expected Y; what to do*. The command line prints it on one line and
leaves with exit code 2; the service answers with it and a 4xx status.
"""


class ReidError(Exception):
    """Anything a user can mend: bad input, a missing file, a full disk."""


class ConfigError(ReidError):
    """A settings or site file with an unknown key, a wrong type or a value out of range."""


class ShapeError(ReidError):
    """An array whose shape, dtype or range is not what its type promises."""


class DataError(ReidError):
    """A data set that is missing, empty, or cannot serve the purpose asked of it."""


class VideoError(ReidError):
    """A video, device or picture folder that cannot be opened or read."""


class ImageError(ReidError):
    """A picture that is not one, or whose size is out of bounds."""


class ModelError(ReidError):
    """A checkpoint or model folder that is missing, damaged or of another kind."""


class GalleryError(ReidError):
    """A gallery that is damaged, missing, or bound to another model."""


class TrainingError(ReidError):
    """A training run that cannot go on: a loss that is not finite, too few identities, a foreign checkpoint."""


class StorageError(ReidError):
    """A file or database that could not be written; what was there before is untouched."""
