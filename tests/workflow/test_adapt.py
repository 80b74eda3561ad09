"""The offline job's own decisions: which cameras take part, whose teacher stands ready."""

import pytest
from builders import write_crops

from reid_mtda.config import AdaptConfig
from reid_mtda.runs import Run
from reid_mtda.workflow.adapt import Adapted, adapted_targets
from reid_mtda.workflow.teacher_cache import ready_made


def test_cameras_that_did_not_fail_take_part_whoever_taught_them(tmp_path):
    """With ready-made teachers the run holds none of its own, and its cameras are targets all the same."""
    for camera in ("gate", "plaza", "yard"):
        write_crops(tmp_path / "crops" / camera, people=1, pictures=2)
    adapted = Adapted(Run(tmp_path, 0), tmp_path / "student", None, {}, {"plaza": "too dark"})
    assert list(adapted_targets(adapted)) == ["gate", "yard"]


@pytest.mark.parametrize(
    ("folders", "found"),
    [({}, None), ({"gate": "a"}, "a"), ({"plaza": "a"}, None), ({"*": "a"}, "a"), ({"*": "a", "gate": "b"}, "b")],
)
def test_a_cameras_own_entry_goes_before_the_one_for_all(folders, found):
    path = ready_made(AdaptConfig(ready_made=folders), "gate")
    assert (path and str(path)) == found
