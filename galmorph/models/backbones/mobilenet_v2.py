"""MobileNet V2 (Sandler et al. 2018): the default; 2.3 million parameters.

It is torchvision's, with the same names and fresh weights. It is built here since importing torchvision imports torch's
compiler too, which takes a third of the start of a run.
"""

import torch
from torch import Tensor, nn

from galmorph.models.backbones import Backbone, torchvision_weights
from galmorph.models.backbones.mobilenet_v1 import conv

# (expansion, output channels, repetitions, stride of the first) of the bottlenecks: table 2 of the paper.
BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
N_FEATURES = 1280


class Bottleneck(nn.Module):
    """An expansion, a depthwise convolution and a projection, added to the input where the shapes allow it."""

    def __init__(self, n_in: int, n_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = n_in * expansion
        layers: list[nn.Module] = [conv(n_in, hidden, 1)] if expansion > 1 else []
        layers += [conv(hidden, hidden, 3, stride, groups=hidden), nn.Conv2d(hidden, n_out, 1, bias=False)]
        self.conv = nn.Sequential(*layers, nn.BatchNorm2d(n_out))
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, images: Tensor) -> Tensor:
        """Return the output, (n, n_out, y, x), of feature maps (n, n_in, y, x)."""
        return images + self.conv(images) if self.is_residual else self.conv(images)


class MobileNetV2(nn.Module):
    """Bottlenecks of depthwise convolutions, global average, one linear layer."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(3, 32, 3, stride=2)]
        n_in = 32
        for expansion, n_out, repetitions, stride in BOTTLENECKS:
            for i in range(repetitions):
                layers.append(Bottleneck(n_in, n_out, 1 if i else stride, expansion))
                n_in = n_out
        self.features = nn.Sequential(*layers, conv(n_in, N_FEATURES, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(N_FEATURES, n_outputs))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, n_outputs) of images (n, 3, y, x)."""
        pooled = nn.functional.adaptive_avg_pool2d(self.features(images), (1, 1))
        return self.classifier(torch.flatten(pooled, 1))


BACKBONE = Backbone(
    "mobilenet_v2", MobileNetV2, head="classifier.1.", fetch=lambda: torchvision_weights("mobilenet_v2")
)
