"""MobileNet V3 large (Howard et al. 2019); 4.3 million parameters."""

from torch import nn
from torchvision import models

from galmorph.models.backbones import Backbone


def build(n_outputs: int) -> nn.Module:
    """Return the network with fresh weights and ``n_outputs`` outputs."""
    return models.mobilenet_v3_large(num_classes=n_outputs)


BACKBONE = Backbone(
    "mobilenet_v3_large", build, head="classifier.3.", pretrained="MobileNet_V3_Large_Weights.IMAGENET1K_V1"
)
