"""VGG16 (Simonyan & Zisserman 2015); 134 million parameters."""

from torch import nn
from torchvision import models

from galmorph.models.backbones import Backbone


def build(n_outputs: int) -> nn.Module:
    """Return the network with fresh weights and ``n_outputs`` outputs."""
    return models.vgg16(num_classes=n_outputs)


BACKBONE = Backbone("vgg16", build, head="classifier.6.", pretrained="VGG16_Weights.IMAGENET1K_V1")
