"""What ``import reid_mtda`` offers, for type checkers: the package itself loads each name on first use."""

from reid_mtda.gallery.filter import Filter as Filter
from reid_mtda.gallery.gallery import Gallery as Gallery
from reid_mtda.model import Model as Model
from reid_mtda.model import load_model as load_model
from reid_mtda.vision.detect import load_detector as load_detector
from reid_mtda.workflow.front_door import adapt as adapt
from reid_mtda.workflow.front_door import evaluate as evaluate
from reid_mtda.workflow.front_door import load_crops as load_crops

__version__: str
