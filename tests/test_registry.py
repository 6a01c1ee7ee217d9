"""Folders are registries; one conformance test over every entry of every folder."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from galmorph import registry
from galmorph.errors import GalmorphError


def entries(folder):
    return [(folder, name) for name in registry.names(folder)]


def test_names_are_listed_without_importing():
    code = "import sys; from galmorph import registry; registry.names('backbones'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("folder", "name"), [e for f in registry.KINDS for e in entries(f)])
def test_every_entry_defines_its_constant(folder, name):
    assert registry.load(folder, name).name == name


def test_unknown_name_gets_the_list_and_the_closest():
    with pytest.raises(GalmorphError, match=r"no backbone 'resnet5O'.*mean 'resnet50'.*Known: mobilenet_v1"):
        registry.load("backbones", "resnet5O")


def test_mobilenet_means_v2():
    assert registry.load("backbones", "mobilenet").name == "mobilenet_v2"


@pytest.mark.parametrize("name", registry.names("backbones"))
def test_backbones_differ_only_in_their_head(name):
    backbone = registry.load("backbones", name)
    torch.manual_seed(0)
    few, many = backbone.build(3).eval(), backbone.build(5).eval()
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (few, many)]
    differing = {k for k in shapes[0] if shapes[0][k] != shapes[1][k]}
    assert shapes[0].keys() == shapes[1].keys()
    assert differing
    assert all(key.startswith(backbone.head) for key in differing)
    with torch.inference_mode():
        assert few(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


@pytest.mark.parametrize("name", registry.names("schemas"))
def test_schemas_name_galaxies(name):
    schema = registry.load("schemas", name)
    assert schema.reference
    rng = np.random.default_rng(0)
    names = schema.short_names(rng.random((500, len(schema.labels))).astype(np.float32))
    assert max(map(len, names)) <= schema.name_width
    assert all(names)


def test_a_family_gives_entries_by_its_prefix():
    pytest.importorskip("timm", reason="the extra timm is not installed")
    backbone = registry.load("backbones", "timm:test_resnet")
    network = backbone.build(5)
    head = {name for name in network.state_dict() if name.startswith(backbone.head)}
    assert head == {"fc.weight", "fc.bias"}
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    with pytest.raises(GalmorphError, match="timm has no network 'no_such_net'"):
        registry.load("backbones", "timm:no_such_net")
    with pytest.raises(GalmorphError, match="no backbone 'other:net'"):
        registry.load("backbones", "other:net")


@pytest.mark.parametrize(("name", "n_features"), [("mobilenet_v1", 1024 * 49), ("resnet50", 2048 * 49)])
def test_flattened_backbone_keeps_the_names_of_its_layers(name, n_features):
    plain, flat = (registry.load("backbones", prefix + name) for prefix in ("", "flatten:"))
    network = flat.build(3).eval()
    kept, given = network.state_dict(), plain.build(3).state_dict()
    assert kept[f"{flat.head}weight"].shape == (3, n_features)
    differing = {k for k in kept.keys() | given.keys() if k not in given or k not in kept}
    assert all(k.startswith(flat.head) for k in differing)
    assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 3)


def test_flattened_backbone_for_another_size():
    network = registry.load("backbones", "flatten:96:mobilenet_v1").build(3).eval()
    assert network(torch.zeros(1, 3, 96, 96)).shape == (1, 3)
    with pytest.raises(GalmorphError, match="for 32 px or more"):
        registry.load("backbones", "flatten:8:mobilenet_v1")
