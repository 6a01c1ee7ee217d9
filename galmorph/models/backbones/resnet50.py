"""ResNet50 (He et al. 2016), the network of both papers; 24 million parameters."""

from galmorph.models.backbones import from_torchvision

BACKBONE = from_torchvision("resnet50", head="fc.")
