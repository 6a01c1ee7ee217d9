"""MobileNet V2 (Sandler et al. 2018): the default; 2.3 million parameters."""

from galmorph.models.backbones import from_torchvision

BACKBONE = from_torchvision("mobilenet_v2", head="classifier.1.")
