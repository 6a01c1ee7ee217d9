"""MobileNet V1 (Howard et al. 2017), which torchvision lacks; 3.2 million parameters.

Layout of the parameters: ``features.0.{0 conv, 1 bn}``, ``features.1..13.{0 depthwise, 1 pointwise}.{0 conv, 1 bn}``,
``classifier``.
"""

from torch import Tensor, nn

from galmorph.models.backbones import Backbone

# (output channels, stride) of the 13 separable blocks: table 1 of the paper.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


def conv(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution with batch normalisation and ReLU6."""
    layer = nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(n_out), nn.ReLU6(inplace=True))


class MobileNetV1(nn.Module):
    """Depthwise separable convolutions, global average, one linear layer."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(3, 32, 3, stride=2)]
        n_in = 32
        for n_out, stride in BLOCKS:
            layers.append(nn.Sequential(conv(n_in, n_in, 3, stride, groups=n_in), conv(n_in, n_out, 1)))
            n_in = n_out
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.001)  # as in the reference implementation
        self.classifier = nn.Linear(n_in, n_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, n_outputs) of images (n, 3, y, x)."""
        return self.classifier(self.dropout(self.features(images).mean(dim=(2, 3))))


BACKBONE = Backbone("mobilenet_v1", MobileNetV1, head="classifier.")
