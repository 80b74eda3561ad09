"""torchvision must import both where its operators load and where they do not; each case needs a fresh process."""

import subprocess
import sys
import textwrap

import pytest

torch = pytest.importorskip("torch")


def run_python(code: str, *, path: str = "") -> str:
    prefix = f"import sys; sys.path.insert(0, {path!r})\n" if path else ""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", prefix + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fake_torchvision(folder, init: str) -> str:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(textwrap.dedent(init))
    return str(folder)


def test_transforms_and_torchreid_work_in_this_environment():
    out = run_python("""
        from reid_mtda.models.torchvision_compat import ensure_torchvision
        declared = ensure_torchvision()
        assert ensure_torchvision() is declared  # asked again: same answer, no second declaration
        import gc, warnings
        gc.collect()  # the schemas outlive collection
        import torch, torchvision
        from PIL import Image
        picture = torchvision.transforms.ToTensor()(Image.new("RGB", (4, 8)))
        assert picture.shape == (3, 8, 4)
        assert torch.ops.torchvision.nms.default is not None
        warnings.filterwarnings("ignore")
        from torchreid.reid import models
        print("works")
    """)
    assert out.strip() == "works"


def test_native_torchvision_is_left_alone(tmp_path):
    path = fake_torchvision(tmp_path, "ready = True")
    run_python(
        """
        from reid_mtda.models import torchvision_compat
        assert torchvision_compat.ensure_torchvision() is False
        assert torchvision_compat._declare_operators.cache_info().currsize == 0
        import torchvision
        assert torchvision.ready and "torch" not in sys.modules
        """,
        path=path,
    )


def test_missing_operator_is_declared_and_half_imported_modules_are_dropped(tmp_path):
    path = fake_torchvision(
        tmp_path,
        """
        import torch
        from torchvision import part
        torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: dets)
        torch.library.register_fake("torchvision::qnms")(lambda dets, scores, iou_threshold: dets)
        """,
    )
    (tmp_path / "torchvision" / "part.py").write_text(
        "import builtins\nbuiltins.loads = builtins.__dict__.get('loads', 0) + 1"
    )
    run_python(
        """
        import builtins
        from reid_mtda.models.torchvision_compat import ensure_torchvision
        assert ensure_torchvision() is True
        assert builtins.loads == 2, builtins.loads
        """,
        path=path,
    )


def test_plain_import_fails_where_operators_are_missing(tmp_path):
    """The case above must really be one: without the declaration the same package does not import."""
    path = fake_torchvision(
        tmp_path, "import torch\ntorch.library.register_fake('torchvision::nms')(lambda dets, scores, iou: dets)"
    )
    with pytest.raises(AssertionError, match="operator torchvision::nms does not exist"):
        run_python("import torchvision", path=path)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("raise RuntimeError('built with CUDA 12, torch with 13')", "does not import (built with CUDA 12"),
        ("raise ImportError('libfoo.so')", "does not import (libfoo.so)"),
        ("import no_such_package", "torchvision: no_such_package is not installed; run pip install"),
    ],
)
def test_other_failures_say_what_to_do(tmp_path, init, message):
    path = fake_torchvision(tmp_path, init)
    out = run_python(
        """
        from reid_mtda.errors import ModelError
        from reid_mtda.models.torchvision_compat import ensure_torchvision
        try:
            ensure_torchvision()
        except ModelError as error:
            print(error)
        """,
        path=path,
    )
    assert message in out
    assert "reid-mtda[train]" in out
