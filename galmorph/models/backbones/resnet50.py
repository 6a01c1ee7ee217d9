"""ResNet50 (He et al. 2016), the network of both papers; 24 million parameters."""

from torch import nn
from torchvision import models

from galmorph.models.backbones import Backbone


def build(n_outputs: int) -> nn.Module:
    """Return the network with fresh weights and ``n_outputs`` outputs."""
    return models.resnet50(num_classes=n_outputs)


BACKBONE = Backbone("resnet50", build, head="fc.", pretrained="ResNet50_Weights.IMAGENET1K_V1")
