"""Ranges of numbers: each number that a user may give has one, and what is outside is refused in its option's name."""

import dataclasses
import re
import typing

import pytest
import typer
from typer.main import get_command

from galmorph.classification.options import ClassifyOptions
from galmorph.cli.app import app
from galmorph.errors import GalmorphError
from galmorph.ranges import Range, ranges_of
from galmorph.retrieval.client import Limits
from galmorph.retrieval.options import FetchOptions
from galmorph.training.augmentation import Augmentation
from galmorph.training.config import TrainConfig, configure, parse_settings
from galmorph.training.split import Split

COMMAND = get_command(app)
USAGE_ERROR = typer.BadParameter.__mro__[1]
IMPOSSIBLE = ("nan", "inf", "-inf", "-1", "1e400", "9" * 30, "-0.5")


def numeric_options():
    """Yield the commands and those of their options whose values are numbers."""
    groups = [("", app), *((group.name, group.typer_instance) for group in app.registered_groups)]
    for group, commands in groups:
        for command in commands.registered_commands:
            words = [group, command.name or command.callback.__name__]
            for name, kind in typing.get_type_hints(command.callback).items():
                if {int, float} & {kind, *typing.get_args(kind)}:
                    yield [*filter(None, words)], f"--{name.replace('_', '-')}"


OPTIONS = [*numeric_options()]


def test_there_are_numeric_options():
    assert (["fetch"], "--rate") in OPTIONS
    assert len(OPTIONS) > 20


@pytest.mark.parametrize(("words", "option"), OPTIONS, ids=lambda value: "".join(value))
def test_options_refuse_impossible_numbers(words, option):
    for text in IMPOSSIBLE:
        with pytest.raises(USAGE_ERROR) as caught:
            COMMAND.main([*words, f"{option}={text}"], standalone_mode=False)
        assert caught.value.exit_code == 2
        assert f"'{option}'" in caught.value.format_message()


SETTINGS = [name for name, _ in ranges_of(TrainConfig)]
SETTINGS += [f"{name}.{part}" for name in ("augmentation", "strong") for part, _ in ranges_of(Augmentation)]
SETTINGS += [f"split.{part}" for part, _ in ranges_of(Split)]


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_refuse_impossible_numbers(name):
    for text in IMPOSSIBLE:
        with pytest.raises(GalmorphError, match=f"^--set {re.escape(name)}=.*a (whole )?number from"):
            parse_settings([f"{name}={text}"])


@pytest.mark.parametrize("kind", [TrainConfig, Augmentation, Split, ClassifyOptions, FetchOptions, Limits])
def test_every_numeric_field_has_a_range(kind):
    fields = dataclasses.fields(kind)
    numeric = {field.name for field in fields if re.match("(int|float)( [|] None)?$", str(field.type))}
    bounded = dict(ranges_of(kind))
    if kind is FetchOptions:
        numeric -= dict(ranges_of(Limits)).keys()  # these are checked as `Limits`
    assert numeric == bounded.keys()
    for field in fields:
        if field.name in bounded and field.default is not None:
            assert field.default in bounded[field.name]


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (ClassifyOptions, {"tta": 0}, "--tta 0: a whole number from 1 to 8"),
        (ClassifyOptions, {"batch_size": 10**9}, "--batch-size 1000000000: a whole number"),
        (ClassifyOptions, {"hdu": -1}, "--hdu -1: a whole number from 0"),
        (ClassifyOptions, {"hdu": True}, "--hdu True: a whole number from 0"),
        (ClassifyOptions, {"image_hdu": "-1"}, "--image-hdu -1: a whole number from 0"),
        (ClassifyOptions, {"image_hdu": -1}, "--image-hdu -1: a whole number from 0"),
        (ClassifyOptions, {"image_hdu": "1.5"}, "--image-hdu 1.5: a whole number from 0"),
        (ClassifyOptions, {"image_hdu": "nan"}, "--image-hdu nan: a whole number from 0"),
        (ClassifyOptions, {"image_hdu": "9" * 30}, "--image-hdu 10{9}"),
        (ClassifyOptions, {"zero_point": "nan"}, "--zero-point nan: one AB magnitude"),
        (ClassifyOptions, {"width_arcsec": float("inf")}, "--width-arcsec inf: a number from"),
        (ClassifyOptions, {"pixscale": "wide"}, "--pixscale wide: a number from"),
        (FetchOptions, {"size": 0}, "size=0: a whole number from 1 to 3,000"),
        (FetchOptions, {"size_factor": float("nan")}, "size_factor=nan: a number from"),
        (FetchOptions, {"workers": 65}, "workers=65: a whole number from 1 to 64"),
    ],
)
def test_options_of_python_are_checked_too(kind, wrong, message):
    with pytest.raises(GalmorphError, match=message) as caught:
        kind(**wrong)
    assert caught.value.exit_code == 2


def test_numbers_of_hdus_and_names_are_told_apart():
    given = {"2": 2, " 3 ": 3, "SCI": "SCI", 4: 4, None: None}
    assert {hdu: ClassifyOptions(image_hdu=hdu).image_hdu for hdu in given} == given


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": float("nan")}, "--set lr=nan: a number"),
        ({"epochs": 0}, "--set epochs=0: a whole number from 1"),
        ({"settings": ["split.val=0.6", "split.test=0.4"]}, "split.val=0.6 and split.test=0.4: together less than 1"),
    ],
)
def test_a_configuration_is_checked_as_a_whole(wrong, message):
    with pytest.raises(GalmorphError, match=re.escape(message)):
        configure("default", ["x"], "galaxyzoo2", "mobilenet", wrong.pop("settings", ()), **wrong)


def test_settings_are_checked_before_the_data_are_looked_at(tmp_path):
    with pytest.raises(GalmorphError, match="--set mixup=nan"):
        configure("default", [str(tmp_path / "missing")], None, "mobilenet", ["mixup=nan"])


def test_a_range_in_words():
    assert str(Range(1, 4096, whole=True)) == "a whole number from 1 to 4,096"
    assert str(Range(0.5, 60)) == "a number from 0.5 to 60"
    assert 1.5 not in Range(1, 2, whole=True)
    assert "1" not in Range(1, 2)


def test_one_image_and_columns_in_one_text_are_what_they_say():
    options = ClassifyOptions(images="a-{band}.fits", columns="morph_*,p_bar_yes")
    assert (options.images, options.columns) == (["a-{band}.fits"], ["morph_*", "p_bar_yes"])


@pytest.mark.parametrize("name", ["frame", "device", "dtype", "prefix"])
def test_a_text_of_another_type_is_refused(name):
    with pytest.raises(GalmorphError, match=f"--{name} 5: a text"):
        ClassifyOptions(**{name: 5})
