"""What a step of training is fed with and learns: pieces, MixUp, weights, losses, layers, options as name=value."""

import dataclasses
import threading
from math import comb, log

import numpy as np
import pytest
import torch
from made import kaggle_folder, model_file
from torch import nn

from galmorph import registry
from galmorph.errors import GalmorphError
from galmorph.models.model import Model, build, load, save
from galmorph.threads import ahead
from galmorph.training import dataset as datasets
from galmorph.training.augmentation import PLAIN, plain_view
from galmorph.training.batches import micro_batches
from galmorph.training.config import TrainConfig, configure, parse_settings
from galmorph.training.losses import cross_entropy, dirichlet_multinomial, mse
from galmorph.training.processes import Processes
from galmorph.training.schedule import averaging, class_weights, freeze_layers, galaxy_weights

GZ2 = registry.load("schemas", "galaxyzoo2")
RINGS = registry.load("schemas", "rings")
CPU = torch.device("cpu")


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    return datasets.load([kaggle_folder(tmp_path / "zoo", n=11)], GZ2, 32, 5.12)


ALONE = Processes()


def fed(zoo, processes=ALONE, **options):
    config = TrainConfig(("x",), "galaxyzoo2", **{"input_size": 32, "batch_size": 4, "augmentation": PLAIN, **options})
    generator = torch.Generator().manual_seed(1)
    return list(micro_batches(zoo, zoo.fractions, np.arange(11), config, 0, generator, CPU, processes))


def test_on_the_cpu_no_thread_takes_the_cores_from_the_network(zoo, monkeypatch):
    threads = []
    original = datasets.Dataset.batch

    def batch(self, rows):
        threads.append(threading.get_ident())
        return original(self, rows)

    monkeypatch.setattr(datasets.Dataset, "batch", batch)
    assert len(fed(zoo)) == len(threads) == 3
    assert set(threads) == {threading.get_ident()}


def test_ahead_makes_the_next_item_while_the_last_is_used():
    begun, used = [], []
    second = threading.Event()

    def items():
        for i in range(3):
            begun.append((i, threading.get_ident()))
            if i == 1:
                second.set()
            yield i

    for item in ahead(items()):
        assert second.wait(5)  # begun although the first is not done with
        used.append(item)
    assert used == [0, 1, 2]
    assert threading.get_ident() not in {thread for _, thread in begun}

    def broken():
        yield 1
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        list(ahead(broken()))


def test_micro_batches_are_the_batches_in_order(zoo):
    got = fed(zoo)
    assert [(len(p.rgb), p.share, p.ends_batch) for p in got] == [(4, 1, True), (4, 1, True), (3, 1, True)]
    torch.testing.assert_close(torch.cat([p.targets for p in got]), zoo.fractions, equal_nan=True)
    plain = plain_view(torch.from_numpy(np.array(zoo.images)), zoo.view, 32)
    torch.testing.assert_close(torch.cat([p.rgb for p in got]), plain)


@pytest.mark.parametrize(("n", "accumulate"), [(1, 2), (2, 1), (2, 2), (3, 2)])
def test_processes_and_micro_batches_share_each_batch(zoo, n, accumulate):
    parts = [fed(zoo, Processes(rank, n), accumulate=accumulate, batch_size=5) for rank in range(n)]
    assert all(sum(piece.ends_batch for piece in part) == 3 for part in parts), "as many steps in each process"
    assert sum(piece.share for part in parts for piece in part) == pytest.approx(3)
    seen = torch.cat([piece.rgb.float() for part in parts for piece in part if piece.share]).sum(dim=(1, 2, 3))
    whole = torch.cat([piece.rgb for piece in fed(zoo)]).sum(dim=(1, 2, 3))
    torch.testing.assert_close(seen.unique(), whole.unique())
    assert min(len(piece.rgb) for part in parts for piece in part if piece.share) == 2, "none of one galaxy alone"


def test_mixup_mixes_pictures_and_labels_alike(zoo):
    plain, mixed = fed(zoo, batch_size=11)[0], fed(zoo, batch_size=11, mixup=1.0)[0]
    assert torch.equal(mixed.rgb, fed(zoo, batch_size=11, mixup=1.0)[0].rgb), "the same draws"
    known = ~zoo.fractions.isnan()
    for picture, target in zip(mixed.rgb, mixed.targets, strict=True):
        # Each is a share of one picture and the rest of another, and so are its labels.
        i, j, share = min(
            (float((share * plain.rgb[i] + (1 - share) * plain.rgb[j] - picture).abs().mean()), i, j, share)
            for i in range(11)
            for j in range(11)
            for share in [_share(plain.rgb[i], plain.rgb[j], picture)]
        )[1:]
        expected = share * plain.targets[i] + (1 - share) * plain.targets[j]
        torch.testing.assert_close(target[known[i]], expected[known[i]], atol=1e-3, rtol=0)


def _share(one, other, mixed):
    difference = (one - other).flatten()
    return float(((mixed - other).flatten() @ difference) / difference.square().sum().clamp(min=1e-9))


def test_classes_are_balanced_by_weights():
    fractions = torch.tensor([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 2 + [[torch.nan, torch.nan]])
    assert class_weights(RINGS, fractions, 0.0) == pytest.approx([1, 1])
    weights = class_weights(RINGS, fractions, 1.0)
    assert weights[1] == pytest.approx(3 * weights[0])
    each = galaxy_weights(RINGS, fractions, weights)
    assert each[:6].sum() == pytest.approx(float(each[6:8].sum()))
    assert each[:8].mean() == pytest.approx(1)
    assert each[8] == 1
    assert class_weights(RINGS, fractions[:6], 1.0) == pytest.approx([1, 1]), "of a class without examples: 1"


@pytest.mark.parametrize("loss", [mse, cross_entropy, dirichlet_multinomial])
def test_weights_count_galaxies_as_often(loss):
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    fractions = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]])
    weighted = loss(RINGS, logits, fractions, torch.tensor([2.0, 1.0, 0.0]))
    assert weighted * 3 == pytest.approx(float(3 * loss(RINGS, logits[[0, 0, 1]], fractions[[0, 0, 1]])), rel=1e-5)


def test_dirichlet_multinomial_of_endless_concentration_is_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    fractions = torch.rand(5, 1, generator=generator, dtype=torch.float64)
    fractions = torch.cat([fractions, 1 - fractions], dim=1)
    sharp = [dirichlet_multinomial(RINGS, logits, fractions, concentration=1e7) for logits in (one, other)]
    exact = [cross_entropy(RINGS, logits, fractions) for logits in (one, other)]
    assert float(sharp[0] - sharp[1]) == pytest.approx(float(exact[0] - exact[1]), rel=1e-3)


def test_dirichlet_multinomial_is_that_of_scipy():
    from scipy.stats import dirichlet_multinomial as known

    logits, votes = torch.tensor([[0.4, -0.2]], dtype=torch.float64), torch.tensor([10.0], dtype=torch.float64)
    loss = {
        k: float(
            dirichlet_multinomial(RINGS, logits, torch.tensor([[k / 10, 1 - k / 10]]), votes=votes, concentration=7)
        )
        for k in (0, 3, 10)
    }
    alpha = logits[0].softmax(dim=0).numpy() * 7

    for k in (3, 10):  # up to the binomial coefficient, which does not depend on the prediction
        expected = known.logpmf([0, 10], alpha, 10) - (known.logpmf([k, 10 - k], alpha, 10) - log(comb(10, k)))
        assert 40 * (loss[k] - loss[0]) == pytest.approx(expected, rel=1e-4)


def test_dirichlet_multinomial_leaves_unknown_questions_out_and_weighs_votes():
    logits = torch.randn(2, 37, generator=torch.Generator().manual_seed(0)).requires_grad_()
    fractions = torch.full((2, 37), torch.nan)
    fractions[:, :3] = torch.tensor([0.7, 0.2, 0.1])
    dirichlet_multinomial(GZ2, logits, fractions, votes=torch.tensor([10.0, 100.0])).backward()
    assert logits.grad[:, 3:].abs().max() == 0
    assert logits.grad[1, :3].norm() > logits.grad[0, :3].norm() > 0


def test_network_learns_from_its_end_to_its_beginning():
    backbone = registry.load("backbones", "mobilenet_v3_small")
    network = backbone.build(3)
    names = [name for name, _ in network.named_parameters()]
    below = [name for name in names if not name.startswith(backbone.head)]
    config = TrainConfig(("x",), "galaxyzoo2", unfreeze_epochs=4)
    learning = []
    for epoch in (0, 1, 3, 4, 5):
        freeze_layers(network, backbone, config, epoch)
        frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
        assert frozen == names[: len(frozen)]
        learning.append(1 - len(frozen) / len(below))
        norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert [norm.training for norm in norms] == [norm.weight.requires_grad for norm in norms]
    assert learning == pytest.approx([0, 0.25, 0.75, 1, 1], abs=0.01)
    freeze_layers(network, backbone, dataclasses.replace(config, fine_tune=False), 9)
    assert {n for n, p in network.named_parameters() if p.requires_grad} == set(names) - set(below)
    assert not any(module.training for module in network.modules())


def test_layers_before_the_head(tmp_path):
    entry = registry.load("backbones", "hidden:16-8:mobilenet_v3_small")
    assert entry.name == "hidden:16-8:mobilenet_v3_small"
    network = entry.build(37).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 37)
    plain = load(model_file(tmp_path / "m.safetensors"))
    started = build(entry.name, 37, str(tmp_path / "m.safetensors"))
    states = (plain.network.state_dict(), started.state_dict())
    shared = [name for name in states[0] if not name.startswith(entry.head)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in shared), "all but the head is taken over"
    shapes = [tuple(v.shape) for k, v in states[1].items() if k.startswith(entry.head) and v.ndim == 2]
    assert shapes == [(16, 1024), (8, 16), (37, 8)]
    card = dataclasses.replace(plain.card, backbone=entry.name)
    save(Model(card, network), tmp_path / "deep.safetensors", half=False)
    again = load(tmp_path / "deep.safetensors")
    image = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(again.network(image), network(image))


@pytest.mark.parametrize("name", ["hidden:mobilenet_v2", "hidden:0:mobilenet_v2", "hidden:a:mobilenet_v2"])
def test_widths_of_layers_are_checked(name):
    with pytest.raises(GalmorphError, match="hidden:256:resnet50"):
        registry.load("backbones", name)


def test_settings():
    values = parse_settings(["mixup=0.2", "accumulate = 4", "compile=True", "augmentation.noise=0.05", "loss=mse"])
    assert values == {"mixup": 0.2, "accumulate": 4, "compile": True, "augmentation.noise": 0.05, "loss": "mse"}
    names = ("default", ["x"], "galaxy10_sdss", "mobilenet")
    config = configure(*names, ["augmentation.noise=0.05", "split.test=0.3", "lr=1e-3", "class-weights=0.5"], seed=3)
    assert (config.augmentation.noise, config.augmentation.grey) == (0.05, 0.2)
    assert (config.split.test, config.split.seed, config.split.by_class) == (0.3, 3, True)
    assert (config.lr, config.head_lr, config.class_weights) == (1e-3, pytest.approx(3e-3), 0.5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mixup", "name=value"),
        ("mixpu=1", "Did you mean 'mixup'"),
        ("accumulate=2.5", "accumulate takes a whole number"),
        ("mixup=much", "mixup takes a number"),
        ("compile=1", "compile takes true or false"),
        ("data=x", "no option 'data'"),
        ("split.edges=1", "no option 'split.edges'"),
        ("accumulate=0", "--set accumulate=0: a whole number from 1 to 4,096"),
        ("mixup=-1", "--set mixup=-1.0: a number from 0 to 100"),
        ("schedule=step", "no schedule 'step'"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(GalmorphError, match=message):
        configure("default", ["x"], "galaxyzoo2", "mobilenet", [setting])


def test_tensorboard_must_be_installed(monkeypatch):
    monkeypatch.setattr("galmorph.training.config.find_spec", lambda name: None)
    with pytest.raises(GalmorphError, match="pip install tensorboard"):
        configure("default", ["x"], "galaxyzoo2", "mobilenet", ["tensorboard=true"])


def test_average_of_a_short_run_is_not_of_the_weights_that_it_began_with():
    network = nn.Linear(1, 1, bias=False)
    averaged = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=averaging(0.995), use_buffers=True)
    nn.init.zeros_(network.weight)
    averaged.update_parameters(network)
    nn.init.ones_(network.weight)
    for _ in range(12):
        averaged.update_parameters(network)
    assert averaged.module.weight.item() > 0.99, "a decay of 0.995 from the first step on would leave it at 0.06"
    averaged.n_averaged.fill_(10**6)
    nn.init.zeros_(network.weight)
    before = averaged.module.weight.item()
    averaged.update_parameters(network)
    assert averaged.module.weight.item() == pytest.approx(0.995 * before)
