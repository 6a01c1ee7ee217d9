"""A report finds the cutouts and images of its run wherever its output lies; images without WCS are shown too."""

import dataclasses

import numpy as np
import pytest
from astropy.io import fits
from fields import made_field, write_cube
from made import cutout_folder

from galmorph.classification.classify import classify
from galmorph.classification.results import read_results
from galmorph.classification.survey_images import FieldSource
from galmorph.reports.pictures import composites

FAST = {"device": "cpu", "dtype": "float32", "batch_size": 8, "workers": 2}


@pytest.fixture(scope="module")
def field():
    return made_field(300, 12, 6, seed=5)


def shown(out, model, rows=(0, 1), **options):
    results = read_results(out)
    return composites(results, rows, model=str(model), **options)


@pytest.mark.parametrize("table", ["id,cutout\na,cut/g0.fits\nb,cut/g1.fits\n", "id\ng0\ng1\n", None])
def test_cutouts_are_found_from_another_folder(model, tmp_path, table):
    cutout_folder(tmp_path / "data" / "cut", n=2)
    (tmp_path / "results").mkdir()
    survey, options = tmp_path / "data" / "cut", {}
    if table is not None:
        survey = tmp_path / "data" / "t.csv"
        survey.write_text(table)
        options = {"cutouts": tmp_path / "data" / "cut"} if "cutout" not in table else {}
    out = tmp_path / "results" / f"o.{'fits' if table is None else 'csv'}"
    classify(survey, model=model, out=out, **options, **FAST)
    assert sorted(shown(out, model).jpeg) == [0, 1]
    (tmp_path / "results" / f"{out.name}.prov.json").unlink()
    without = shown(out, model)
    assert not without.jpeg
    assert len(without.reasons) == 2


def test_one_cutout_is_found_from_another_folder(model, tmp_path):
    cutout_folder(tmp_path / "cut", n=1)
    (tmp_path / "results").mkdir()
    classify(tmp_path / "cut" / "g0.fits", model=model, out=tmp_path / "results" / "o.fits", **FAST)
    assert list(shown(tmp_path / "results" / "o.fits", model, [0]).jpeg) == [0]


def test_survey_images_are_found_from_another_folder(model, tmp_path, field):
    (tmp_path / "results").mkdir()
    write_cube(tmp_path / "f.fits", field)
    out = tmp_path / "results" / "o.fits"
    classify(tmp_path / "f.fits", kind="field", model=model, out=out, **FAST)
    assert sorted(shown(out, model).jpeg) == [0, 1]
    (tmp_path / "f.fits").unlink()
    assert "--images" in shown(out, model).reasons[0]


@pytest.mark.parametrize("pixscale", [0.262, None])
def test_galaxies_of_images_without_wcs_are_shown_as_the_model_saw_them(model, tmp_path, field, pixscale):
    blank = dataclasses.replace(field, header=fits.Header())
    cards = {"PIXSCALE": pixscale} if pixscale else {}
    for name in ("f", "g"):
        write_cube(tmp_path / f"{name}.fits", blank, **cards, SURVEY="")
    images = [tmp_path / "f.fits", tmp_path / "g.fits"]
    classify(images=images, kind="field", model=model, out=tmp_path / "o.fits", **FAST)
    results = read_results(tmp_path / "o.fits")
    rows = list(range(len(results)))
    assert sorted(shown(tmp_path / "o.fits", model, rows).jpeg) == rows
    detected = FieldSource([str(path) for path in images], None, None, None)
    placed = FieldSource([str(path) for path in images], results.catalog, None, None)
    detected.open()
    placed.open()
    for name in ("image", "x", "y", "r90"):
        np.testing.assert_allclose(placed._targets[name], detected._targets[name], rtol=1e-6)
