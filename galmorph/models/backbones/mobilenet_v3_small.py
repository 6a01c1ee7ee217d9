"""MobileNet V3 small (Howard et al. 2019): the fastest; 1.6 million parameters."""

from galmorph.models.backbones import from_torchvision

BACKBONE = from_torchvision("mobilenet_v3_small", head="classifier.3.")
