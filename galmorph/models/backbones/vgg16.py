"""VGG16 (Simonyan & Zisserman 2015); 134 million parameters."""

from galmorph.models.backbones import from_torchvision

BACKBONE = from_torchvision("vgg16", head="classifier.6.")
