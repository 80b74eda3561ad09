"""A data set of your own: a function of a folder. Here ``FOLDER/CAMERA/PERSON_N.jpg``, every second person a test.

``reid-mtda evaluate --data own_data_set:read --root FOLDER`` where this file lies on Python's path, or a name that your
package offers::

    [project.entry-points."reid_mtda.datasets"]
    mine = "own_data_set:read"
"""

import sys
from pathlib import Path

import numpy as np

import reid_mtda as rm
from reid_mtda.types import IdentitySet, LabelledSet, RetrievalSplit


def read(root: Path, *, half: str = "both") -> tuple[LabelledSet, RetrievalSplit]:
    """Read both halves; ``half`` says which one is needed."""
    paths = sorted(root.glob("*/*.jpg"))
    cameras = sorted({path.parent.name for path in paths})
    camids = np.array([cameras.index(path.parent.name) for path in paths], np.int64)
    pids = np.array([int(path.stem.split("_")[0]) for path in paths], np.int64)
    test = pids % 2 == 0
    labels = np.unique(pids[~test], return_inverse=True)[1].astype(np.int64)
    train = LabelledSet(tuple(np.array(paths)[~test]), labels, int(labels.max(initial=-1)) + 1, "mine", camids[~test])
    side = IdentitySet(tuple(np.array(paths)[test]), pids[test], camids[test])
    return train, RetrievalSplit(side, side, tuple(cameras))


if __name__ == "__main__":
    model, root = sys.argv[1:]
    print(rm.evaluate(rm.load_model(model), "own_data_set:read", root=root).mAP)
