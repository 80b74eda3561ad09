"""A backbone of one's own, by a name that presets and stored weights may use.

In Python: ``BACKBONES["tiny"] = tiny_backbone``, then ``EmbedderSpec(arch="tiny")``. For the command line a package
offers it: ``[project.entry-points."reid_mtda.backbones"]`` with ``tiny = "my_package:tiny_backbone"``, then
``--set student.arch=tiny``. A name in a file of weights imports nothing else, so ``module:function`` is no backbone.
"""

from __future__ import annotations

from torch import nn


def tiny_backbone() -> tuple[nn.Module, int]:
    """Three convolutions: crops (B, 3, h, w) -> features (B, 32), and 32."""
    layers: list[nn.Module] = []
    for before, after in ((3, 8), (8, 16), (16, 32)):
        convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 32
