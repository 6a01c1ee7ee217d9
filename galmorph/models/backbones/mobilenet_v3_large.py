"""MobileNet V3 large (Howard et al. 2019); 4.3 million parameters."""

from galmorph.models.backbones import from_torchvision

BACKBONE = from_torchvision("mobilenet_v3_large", head="classifier.3.")
