"""MobileNet V2 (Sandler et al. 2018): the default; 2.3 million parameters."""

from torch import nn
from torchvision import models

from galmorph.models.backbones import Backbone


def build(n_outputs: int) -> nn.Module:
    """Return the network with fresh weights and ``n_outputs`` outputs."""
    return models.mobilenet_v2(num_classes=n_outputs)


BACKBONE = Backbone("mobilenet_v2", build, head="classifier.1.", pretrained="MobileNet_V2_Weights.IMAGENET1K_V1")
