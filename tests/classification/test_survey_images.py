"""Survey images: galaxies found, or a catalog's, cut out and classified straight from the image planes."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.table import Table
from astropy.wcs import WCS
from fields import PIXSCALE, made_field, matched, real_planes, refound, write_bands, write_cube
from made import cutout
from PIL import Image
from typer.testing import CliRunner

from galmorph.classification.classify import classify
from galmorph.classification.opening import open_survey
from galmorph.classification.options import ClassifyOptions
from galmorph.classification.results import read_results
from galmorph.cli import app as cli
from galmorph.errors import CatalogError, CutoutError, GalmorphError, Interrupted, OutputError
from galmorph.images.cutout import write_cutout
from galmorph.images.detection import detect
from galmorph.images.flags import DetectionFlag, Flag
from galmorph.images.framing import cut as cut_each
from galmorph.images.framing import frame
from galmorph.images.survey_image import Planes, image_templates, read_planes
from galmorph.models.model import load
from galmorph.reports.pictures import composites

FAST = {"device": "cpu", "dtype": "float32", "batch_size": 16, "workers": 2, "kind": "field"}


@pytest.fixture(scope="module")
def field():
    return made_field(700, 70, 50, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, field):
    """A field as a cube, and as the compressed files of a brick."""
    folder = tmp_path_factory.mktemp("field")
    write_cube(folder / "cube.fits", field)
    write_bands(folder, field)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    planes = read_planes(str(folder / "cube.fits"))
    return planes, detect(planes)


@pytest.fixture(scope="module")
def classified(folder, model):
    """The table of galaxies found in the cube."""
    out = folder / "found.fits"
    summary = classify(folder / "cube.fits", model=model, out=out, **FAST)
    return summary, Table.read(out), fits.getheader(out, 1)


def truth(field, table):
    """Right ascension and declination of galaxies in the field."""
    return WCS(field.header).all_pix2world(table["x"], table["y"], 0)


def cut(*arguments):
    """All stamps as one tensor."""
    return torch.stack(cut_each(*arguments))


# Detection


def test_galaxies_are_found_and_stars_are_not(field, found):
    _, detection = found
    galaxies = detection.objects[detection.objects["galaxy"]]
    bright = field.galaxies[field.galaxies["snr"] > 20]
    number = matched(bright, galaxies)
    assert (number >= 0).mean() >= 0.95
    assert (matched(galaxies[galaxies["snr"] > 20], field.galaxies) >= 0).mean() >= 0.95
    assert (matched(field.stars, galaxies) >= 0).mean() < 0.05
    there = number >= 0
    away = np.hypot(
        bright["x"][there] - galaxies["x"][number[there]], bright["y"][there] - galaxies["y"][number[there]]
    )
    assert np.median(away) < 0.2


def test_measurements_are_near_the_truth(field, found):
    planes, detection = found
    galaxies = detection.objects[detection.objects["galaxy"] & (detection.objects["flag"] == 0)]
    number = matched(field.galaxies, galaxies, 2.0)
    there = (number >= 0) & (field.galaxies["snr"] > 30)
    made, measured = field.galaxies[there], galaxies[number[there]]
    assert np.median(measured["flux"][:, 1] / made["flux"]) == pytest.approx(0.94, abs=0.08)
    assert np.median(measured["r50"] * PIXSCALE / np.hypot(made["r50"], 0.62)) == pytest.approx(1, abs=0.12)
    flat = made["ratio"] < 0.6
    turned = (measured["theta"][flat] - made["theta"][flat] + math.pi / 2) % math.pi - math.pi / 2
    pull = turned / measured["theta_err"][flat]
    assert 0.3 < np.median(np.abs(pull)) / 0.674 < 2, "the uncertainty is that of the scatter"
    assert np.median(measured["r90"] / measured["r50"]) == pytest.approx(2.1, abs=0.4)
    assert detection.seeing_px * planes.pixscale == pytest.approx(1.4, abs=0.25)


def test_radii_agree_with_those_measured_on_cutouts(field, found):
    from galmorph.images.cutout import Cutout
    from galmorph.images.radius import measure_r90

    planes, detection = found
    galaxies = detection.objects[detection.objects["galaxy"] & (detection.objects["flag"] == 0)]
    galaxies = galaxies[galaxies["snr"] > 60]
    ratios = []
    for galaxy in galaxies[:15]:
        piece = Cutout2D(planes.flux[1], (galaxy["x"], galaxy["y"]), 201, mode="partial", fill_value=0).data
        cutout = Cutout("g", "decals", ("r",), piece[None].astype(np.float32), PIXSCALE, PIXSCALE)
        ratios.append(galaxy["r90"] * PIXSCALE / measure_r90(cutout))
    assert np.nanmedian(ratios) == pytest.approx(1, abs=0.08)


def test_units_of_the_bands_do_not_matter(field, found):
    planes, detection = found
    scaled = (
        planes.flux * np.array([1e-9, 1, 100], np.float32)[:, None, None]
        + np.array([0, 3, 0], np.float32)[:, None, None]
    )
    again = detect(dataclasses.replace(planes, flux=scaled.astype(np.float32)))
    assert abs(len(again.objects) - len(detection.objects)) <= 2
    assert (matched(detection.objects, again.objects, 0.5) >= 0).mean() > 0.97


def test_edge_and_saturation_are_reported(field):
    flux = field.flux.copy()
    bright = np.argmin(field.stars["mag"])
    x, y = int(field.stars["x"][bright]), int(field.stars["y"][bright])
    level = 0.3 * flux[:, y - 3 : y + 4, x - 3 : x + 4].max()
    planes = Planes(
        "f", "decals", tuple("grz"), np.minimum(flux, level), (flux >= level).any(axis=0), None, 0.262, 0.262
    )
    detection = detect(planes)
    number = matched(field.stars[[bright]], detection.objects)[0]
    assert detection.objects["flag"][number] & DetectionFlag.SATURATED
    assert not detection.objects["galaxy"][number], "a saturated star is no galaxy"
    at_edge = detection.objects["x"] < 8
    assert (detection.objects["flag"][at_edge] & DetectionFlag.EDGE > 0).all()


def test_nothing_to_find_is_an_empty_table(model, tmp_path):
    field = made_field(300, 0, 0, seed=1)
    for name, flux in (("noise", field.flux), ("zero", np.zeros_like(field.flux))):
        write_cube(tmp_path / f"{name}.fits", dataclasses.replace(field, flux=flux))
        summary = classify(tmp_path / f"{name}.fits", model=model, **FAST)
        assert summary.targets == 0
        table = Table.read(tmp_path / f"{name}_morph.fits")
        assert len(table) == 0
        assert {"petroR90_r", "p_smooth_or_featured_smooth", "morph_flag"} <= set(table.colnames)


# Stamps


def test_stamps_are_those_of_cutouts(found):
    planes, _ = found
    # Whole and fractional centres; widths that shrink, stretch, and stay; some beyond the edge.
    x = np.array([350.0, 350.5, 203.3, 411.7, 5.2, 690.0, 300.0])
    y = np.array([350.0, 350.5, 501.9, 120.4, 340.0, 3.3, 300.0])
    width = np.array([64.0, 65.0, 30.3, 151.7, 80.0, 90.5, 650.0])
    stamps = cut(planes.flux, x, y, width, 64).numpy()
    for i in range(len(x)):
        half = 400
        padded = np.pad(planes.flux, ((0, 0), (half, half), (half, half)))
        cx, cy = math.floor(x[i] + 0.5), math.floor(y[i] + 0.5)
        # A cutout whose middle is the centre to a quarter pixel, and one by hand where it is not.
        pixels = np.stack([Cutout2D(p, (cx + half, cy + half), 2 * half - 1).data for p in padded])
        expected = shifted_frame(pixels, x[i] - cx, y[i] - cy, width[i], 64)
        np.testing.assert_allclose(stamps[i], expected, atol=1e-3 * np.abs(expected).max())


def shifted_frame(pixels, dx, dy, width, n_out):
    """What `frame` gives for a square whose centre is off the middle of the cutout."""
    from PIL import Image

    middle = pixels.shape[-1] / 2
    box = (middle + dx - width / 2, middle + dy - width / 2, middle + dx + width / 2, middle + dy + width / 2)
    return np.stack(
        [np.asarray(Image.fromarray(p).resize((n_out, n_out), Image.Resampling.BILINEAR, box)) for p in pixels]
    )


def test_stamp_of_a_centred_cutout_is_its_frame(found):
    planes, _ = found
    piece = np.ascontiguousarray(planes.flux[:, 200:301, 300:401])
    stamp = cut(planes.flux, np.array([350.0]), np.array([250.0]), np.array([77.7]), 64)[0]
    np.testing.assert_allclose(stamp, frame(piece, 77.7, 64), atol=1e-5)


def test_very_large_frames_keep_their_light():
    y, x = np.mgrid[:2600, :2600]
    plane = np.exp(-np.hypot(x - 1300, y - 1290) / 200).astype(np.float32)[None]
    stamp = cut(plane, np.array([1300.0]), np.array([1290.0]), np.array([2400.0]), 64)[0, 0]
    piece = plane[:, 90:2491, 100:2501]
    np.testing.assert_allclose(stamp, frame(piece, 2400.0, 64)[0], atol=2e-3)


def test_frames_beside_the_image_are_sky():
    flux = np.ones((2, 300, 300), np.float32)
    places = np.array([-500.0, 150.0, 150.0, 900.0]), np.array([150.0, -500.0, 900.0, 150.0])
    for width in (50.0, 250.0):  # stretched and shrunk
        assert not cut(flux, *places, np.full(4, width), 64).any()
    half = cut(flux, np.array([-0.5, -0.5]), np.array([150.0, 150.0]), np.array([50.0, 250.0]), 64).numpy()
    np.testing.assert_allclose(half.mean(axis=(1, 2, 3)), 0.5, atol=0.01)


# Classification of what is found


def test_found_galaxies_are_classified(field, classified):
    summary, table, header = classified
    assert summary.targets == summary.classified == len(table) > 50
    p = np.stack([table[name] for name in table.colnames[-41:-4]], axis=1)
    assert p[:, :3].sum(axis=1) == pytest.approx(np.ones(len(table)), abs=1e-4)
    assert (table["morph_flag"] & Flag.RADIUS_MEASURED > 0).all()
    ra, dec = WCS(field.header).all_pix2world(table["x"], table["y"], 0)
    np.testing.assert_allclose(table["ra"], ra, atol=1e-7)
    np.testing.assert_allclose(table["dec"], dec, atol=1e-7)
    assert header["GMMODEL"] == "tiny"
    names = [header[f"TTYPE{i}"] for i in range(1, header["TFIELDS"] + 1)]
    for name, unit in (("petroR90_r", "arcsec"), ("flux_r", "uJy"), ("position_angle", "deg"), ("ra", "deg")):
        i = names.index(name) + 1
        assert header[f"TUNIT{i}"] == unit
        assert header[f"TUCD{i}"]
        assert header[f"TCOMM{i}"]
    assert {"kron_radius", "petroR50_r", "axis_ratio_err", "position_angle_err", "flux_err_z"} <= set(names)


def test_a_report_says_why_there_are_no_pictures(folder, classified):
    reasons = {row.cutout for row in read_results(folder / "found.fits").cutouts(None)}
    assert len(reasons) == 1
    assert "cut from a survey image and not kept" in reasons.pop()


def test_a_report_has_pictures_from_the_images(folder, classified, model, tmp_path):
    results, rows = read_results(folder / "found.fits"), [3, 0]
    pictures = composites(results, rows, images=[folder / "cube.fits"], model=str(model))
    source = open_survey(folder / "cube.fits", ClassifyOptions(kind="field"))
    source.open()
    for row, one in zip(rows, source.prepare(rows, load(model).card, torch.device("cpu")), strict=True):
        flux, entry = one.flux, one.entry
        seen = entry.normalization.rgb(flux[None])[0].permute(1, 2, 0).flip(0).numpy()
        shown = np.asarray(Image.open(io.BytesIO(pictures.jpeg[row]))) / 255
        assert np.abs(shown - seen).mean() < 0.02
        assert np.abs(shown - seen[::-1]).mean() > np.abs(shown - seen).mean()
    command = ["report", folder / "found.fits", "--images", folder / "cube.fits", "--model", model, "--json"]
    reported = CliRunner().invoke(cli.app, [*map(str, command), "--out", str(tmp_path / "r.html")])
    assert json.loads(reported.stdout.splitlines()[-1])["pictures"] > 40


def test_position_angles_are_from_north(field, classified):
    _, table, _ = classified
    number = matched(field.galaxies, table, 2.0)
    there = (number >= 0) & (field.galaxies["ratio"] < 0.5) & (field.galaxies["snr"] > 40)
    # North is up and east to the left: an angle from x to y is 90 degrees less, the other way round.
    expected = np.degrees(field.galaxies["theta"][there]) - 90
    away = (table["position_angle"][number[there]] - expected + 90) % 180 - 90
    assert np.median(np.abs(away)) < 4
    assert len(away) > 5


def test_cube_extensions_and_compressed_bands_agree(folder, field, classified, model, tmp_path):
    _, cube, _ = classified
    hdus = [fits.PrimaryHDU()]
    for plane, band in zip(field.flux, "grz", strict=True):
        header = field.header.copy()
        header.update({"BAND": band, "BUNIT": "nanomaggy", "SURVEY": "LegacySurvey"})
        hdus.append(fits.ImageHDU(plane, header))
    fits.HDUList(hdus).writeto(tmp_path / "mef.fits")
    brick = str(folder / "legacysurvey-1m2-image-{band}.fits.fz")
    classify(tmp_path / "mef.fits", model=model, out=tmp_path / "a.fits", **FAST)
    summary = classify(images=[brick], model=model, out=tmp_path / "b.fits", **{**FAST, "kind": None})
    a, b = Table.read(tmp_path / "a.fits"), Table.read(tmp_path / "b.fits")
    assert list(a["x"]) == list(cube["x"])
    np.testing.assert_allclose(a["p_smooth_or_featured_smooth"], cube["p_smooth_or_featured_smooth"], atol=1e-6)
    assert summary.out == str(tmp_path / "b.fits")
    number = matched(cube, b, 0.5)  # quantised to a sixteenth of the noise
    assert (number >= 0).mean() > 0.95


def test_default_output_and_globbed_bands(folder, field, model, tmp_path):
    write_bands(tmp_path, field, compressed=False, name="m31_{band}.fits")
    paths = [tmp_path / f"m31_{band}.fits" for band in "grz"]
    assert image_templates(map(str, paths)) == [str(tmp_path / "m31_{band}.fits")]
    summary = classify(images=paths, model=model, **FAST)
    assert summary.out == str(tmp_path / "m31_morph.fits")
    assert summary.targets > 50


@pytest.mark.parametrize("scale", ["PIXSCALE", "SECPIX", None])
def test_an_image_without_wcs_is_classified_all_the_same(field, classified, model, tmp_path, scale):
    _, with_wcs, _ = classified
    cards = {scale: PIXSCALE} if scale else {}
    blank = dataclasses.replace(field, header=fits.Header())
    write_cube(tmp_path / "f.fits", blank, **cards, SURVEY="")
    summary = classify(tmp_path / "f.fits", model=model, **FAST)
    table = Table.read(tmp_path / "f_morph.fits")
    assert summary.classified == len(table) == len(with_wcs)
    assert "ra" not in table.colnames
    assert table["petroR90_r"].unit == ("arcsec" if scale else "pix")
    np.testing.assert_allclose(table["x"], with_wcs["x"])
    column = "p_smooth_or_featured_smooth"
    np.testing.assert_allclose(table[column], with_wcs[column], atol=1e-5)


def test_an_image_whose_wcs_cannot_be_read_has_its_pixel_scale_and_says_why(model, tmp_path, caplog):
    header = fits.Header({"BUNIT": "nanomaggy", "BANDS": "grz", "CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX"})
    header.update({"WAT1_001": "wtype=tnx", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 32.5, "CRPIX2": 32.5})
    header.update({"CD1_1": -0.3 / 3600, "CD2_2": 0.3 / 3600})
    noise = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    fits.PrimaryHDU(noise, header).writeto(tmp_path / "tnx.fits")
    assert read_planes(str(tmp_path / "tnx.fits")).pixscale == pytest.approx(0.3)
    classify(tmp_path / "tnx.fits", model=model, out=tmp_path / "out.fits", **FAST)
    assert "tnx: its celestial coordinates cannot be read (CTYPE1 'RA---TNX'" in caplog.text
    assert "pixel scale is unknown" not in caplog.text
    Table({"id": ["a"], "ra": [150.0], "dec": [2.0]}).write(tmp_path / "cat.fits")
    with pytest.raises(CatalogError, match=r"tnx.fits: its celestial coordinates .*cannot be found in it"):
        classify(images=[str(tmp_path / "tnx.fits")], catalog=tmp_path / "cat.fits", model=model, **FAST)


@pytest.mark.parametrize("given", ["g=25,r=25,z=0", {"g": 25.0, "r": 25.0, "z": 0.0}], ids=["text", "mapping"])
def test_zero_points_make_an_image_without_units_usable(field, classified, model, tmp_path, given):
    _, with_units, _ = classified
    for plane, band, zero_point in zip(field.flux, "grz", (25.0, 25.0, 0.0), strict=True):
        counts = (plane + np.float32(0.5)) * np.float32(10 ** (0.4 * (zero_point - 22.5)))
        fits.writeto(tmp_path / f"f_{band}.fits", counts.astype(np.float32))
    classify(images=[tmp_path / "f_{band}.fits"], model=model, zero_point=given, **FAST)
    table, header = Table.read(tmp_path / "f_morph.fits"), fits.getheader(tmp_path / "f_morph.fits", 1)
    assert header["GMZEROPT"] == "g=25,r=25,z=0"
    assert "ra" not in table.colnames
    number = matched(with_units[with_units["snr"] > 20], table, 0.5)
    assert (number >= 0).mean() > 0.95
    here, there = table[number[number >= 0]], with_units[with_units["snr"] > 20][number >= 0]
    for band in "grz":  # but for the sky, of which nothing is known
        assert np.median(here[f"flux_{band}"] / there[f"flux_{band}"]) == pytest.approx(1, abs=0.02)


def test_one_zero_point_holds_for_all_bands_of_a_cube_and_whatever_its_header_says(field, tmp_path):
    write_cube(tmp_path / "f.fits", field)
    planes = read_planes(str(tmp_path / "f.fits"), zero_point="20")
    expected = 10.0 * (field.flux - np.median(field.flux, axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(planes.flux, expected, atol=1e-3)
    mixed = read_planes(str(tmp_path / "f.fits"), zero_point="r=20")
    np.testing.assert_allclose(mixed.flux[0], field.flux[0])
    np.testing.assert_allclose(mixed.flux[1], expected[1], atol=1e-3)


def test_an_offset_and_turned_band_is_brought_to_the_grid(field, classified, model, tmp_path):
    from reproject import reproject_interp

    _, aligned, _ = classified
    for band, plane in zip("grz", field.flux, strict=True):
        header = field.header.copy()
        if band == "g":
            angle = math.radians(3)
            header["CRPIX1"] += 7.3
            header["CRPIX2"] -= 4.6
            step = PIXSCALE / 3600
            header["CD1_1"], header["CD1_2"] = -step * math.cos(angle), step * math.sin(angle)
            header["CD2_1"], header["CD2_2"] = step * math.sin(angle), step * math.cos(angle)
            plane, _ = reproject_interp((plane, field.header), header, (720, 710), order="bicubic")
            plane = np.nan_to_num(plane).astype(np.float32)
        header.update({"SURVEY": "LegacySurvey", "BAND": band, "BUNIT": "nanomaggy"})
        fits.writeto(tmp_path / f"o-{band}.fits", plane, header)
    planes = read_planes(str(tmp_path / "o-{band}.fits"))
    assert planes.shape == (700, 700)
    middle = (slice(60, -60), slice(60, -60))
    assert np.corrcoef(planes.flux[0][middle].ravel(), field.flux[0][middle].ravel())[0, 1] > 0.97
    classify(images=[tmp_path / "o-{band}.fits"], model=model, out=tmp_path / "o.fits", **FAST)
    table = Table.read(tmp_path / "o.fits")
    inside = aligned[np.hypot(aligned["x"] - 350, aligned["y"] - 350) < 280]
    assert (matched(inside, table, 1.0) >= 0).mean() > 0.93


def test_overlapping_bricks_tell_duplicates(model, tmp_path):
    field = made_field(700, 60, 40, seed=5)
    for name, part in (("left", slice(0, 420)), ("right", slice(280, 700))):
        header = field.header.copy()
        header["CRPIX1"] -= part.start
        write_bands(
            tmp_path, dataclasses.replace(field, flux=field.flux[:, :, part], header=header), f"{name}-{{band}}.fz"
        )
    images = [tmp_path / "left-{band}.fz", tmp_path / "right-{band}.fz"]
    summary = classify(images=images, model=model, out=tmp_path / "o.fits", **FAST)
    table = Table.read(tmp_path / "o.fits")
    table["image"] = [str(name) for name in table["image"]]
    assert set(table["image"]) == {"left", "right"}
    assert summary.targets == len(table)
    table["x"] += np.where(table["image"] == "right", 280, 0)
    doubled = table[table["primary"] == 0]
    assert len(doubled) >= 5
    primary = table[table["primary"] == 1]
    assert (matched(doubled, primary, 3.0) >= 0).all(), "each has a primary row"
    whole = (primary["x"] > 285) & (primary["x"] < 415)
    bright = primary[whole & (primary["snr"] > 30)]
    assert (np.unique(matched(bright, bright, 3.0), return_counts=True)[1] == 1).all(), "and only one"
    off = (doubled["image"] == "left") == (doubled["x"] > 349)
    assert off.mean() > 0.9, "the row farther from its edge is kept"


# Catalogs


@pytest.fixture(scope="module")
def catalog(tmp_path_factory, field):
    """A catalog with an odd row, further HDUs and a column of radii."""
    path = tmp_path_factory.mktemp("catalog") / "tractor.fits"
    ra, dec = truth(field, field.galaxies)
    ra, dec = np.append(ra, [10.0, np.nan]), np.append(dec, [-80.0, 2.0])
    table = Table({"objid": np.arange(len(ra)), "ra": ra, "dec": dec})
    table["petroR90_r"] = np.append(2.5 * field.galaxies["r50"], [3, 3]).astype(np.float32)
    first = fits.BinTableHDU(table, name="TRACTOR")
    first.header["RELEASE"] = (9010, "kept")
    more = fits.BinTableHDU(Table({"a": [1, 2]}), name="MORE")
    fits.HDUList([fits.PrimaryHDU(), first, more]).writeto(path)
    return path


def test_a_catalog_comes_back_with_the_columns(folder, field, catalog, model, tmp_path):
    out = tmp_path / "o.fits"
    n = len(field.galaxies)
    summary = classify(folder / "cube.fits", catalog=catalog, model=model, out=out, **FAST)
    assert (summary.targets, summary.classified, summary.failed) == (n + 2, n, 2)
    with fits.open(out) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "TRACTOR", "MORE"]
        assert hdus[1].header["RELEASE"] == 9010
        table = Table(hdus[1].data)
    assert list(table["objid"]) == list(range(n + 2))
    flag = np.asarray(table["morph_flag"])
    assert list(flag[-2:]) == [Flag.UNREADABLE] * 2
    assert np.isnan(table["p_smooth_or_featured_smooth"][-2:]).all()
    assert not (flag[:n] & Flag.RADIUS_MEASURED).any()
    inner = np.minimum.reduce(
        [field.galaxies["x"], field.galaxies["y"], 699 - field.galaxies["x"], 699 - field.galaxies["y"]]
    )
    assert (flag[:n][inner < 15] & Flag.PARTIAL > 0).all()
    good = (inner > 100) & (field.galaxies["snr"] > 40)
    assert not (flag[:n][good] & ~(Flag.BLENDED | Flag.TOO_SMALL)).any()


def test_stamps_of_a_catalog_are_the_pixels_at_its_positions(folder, field, catalog, model):
    from galmorph.models.model import load

    source = open_survey(folder / "cube.fits", ClassifyOptions(kind="field", catalog=catalog))
    card = load(model).card
    rows = [0, 3, 5]
    source.open()
    for row, one in zip(rows, source.prepare(rows, card, torch.device("cpu")), strict=True):
        flux, entry = one.flux, one.entry
        galaxy = field.galaxies[row]
        width = entry.normalization.framing.radii * np.float32(2.5 * galaxy["r50"]) / PIXSCALE
        expected = cut(
            np.ascontiguousarray(field.flux[[2, 1, 0]]),
            np.array([galaxy["x"]]),
            np.array([galaxy["y"]]),
            np.array([width]),
            64,
        )
        np.testing.assert_allclose(flux, expected[0], atol=1e-3)


def test_without_a_radius_it_is_measured(folder, field, catalog, model, tmp_path):
    table = Table.read(catalog, hdu=1)["objid", "ra", "dec"]
    table.write(tmp_path / "t.csv")
    classify(folder / "cube.fits", catalog=tmp_path / "t.csv", model=model, **FAST)
    result = Table.read(tmp_path / "t_morph.csv")
    assert (result["morph_flag"][:-2] & Flag.RADIUS_MEASURED > 0).all()
    assert result.colnames[:3] == ["objid", "ra", "dec"]


def test_a_band_that_ends_is_a_missing_band(field, model, tmp_path):
    flux = field.flux.copy()
    flux[0, :, :350] = 0
    flux[2, 600:, 600:] = np.nan
    write_cube(tmp_path / "f.fits", dataclasses.replace(field, flux=flux))
    classify(tmp_path / "f.fits", model=model, **FAST)
    table = Table.read(tmp_path / "f_morph.fits")
    half = table["petroR90_r"] / PIXSCALE * 2.56
    left, right = table["x"] + half < 345, (table["x"] - half > 355) & (table["x"] + half < 595)
    assert (table["morph_flag"][left] & Flag.MISSING_BAND > 0).all()
    assert np.isnan(np.ma.filled(table["p_smooth_or_featured_smooth"], np.nan)[left]).all()
    assert not (table["morph_flag"][right] & Flag.MISSING_BAND).any()
    crossing = (np.abs(table["x"] - 350) < half / 2) & ~left
    assert (table["morph_flag"][crossing] & Flag.PARTIAL > 0).all()
    spoiled = (table["x"] + half > 605) & (table["y"] + half > 605)
    assert (table["morph_flag"][spoiled] & Flag.BAD_PIXELS > 0).all()


def test_the_mask_beside_a_brick_is_used(field, model, tmp_path):
    template = write_bands(tmp_path, field)
    bits = np.zeros(field.flux.shape[1:], np.int32)
    galaxy = field.galaxies[np.argmin(np.hypot(field.galaxies["x"] - 350, field.galaxies["y"] - 350))]
    x, y = int(galaxy["x"]), int(galaxy["y"])
    bits[y - 2 : y + 3, x - 2 : x + 3] = 8
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(bits, name="MASKBITS")]).writeto(
        tmp_path / "legacysurvey-1m2-maskbits.fits.fz"
    )
    planes = read_planes(str(template))
    assert planes.bad.sum() == 25
    Table({"ra": [truth(field, galaxy)[0]], "dec": [truth(field, galaxy)[1]], "petroR90": [4.0]}).write(
        tmp_path / "t.csv"
    )
    classify(images=[template], catalog=tmp_path / "t.csv", model=model, **FAST)
    assert Table.read(tmp_path / "t_morph.csv")["morph_flag"][0] & Flag.BAD_PIXELS


def test_a_stopped_run_goes_on_with_the_same_bytes(folder, model, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    classify(folder / "cube.fits", model=model, out=tmp_path / "whole.fits", **FAST)

    def stop(done, total):
        if done >= 32:
            raise KeyboardInterrupt

    out = tmp_path / "o.fits"
    with pytest.raises(Interrupted, match="same command"):
        classify(folder / "cube.fits", model=model, out=out, on_progress=stop, **FAST)
    done = []
    classify(
        folder / "cube.fits",
        model=model,
        out=out,
        on_progress=lambda d, t: done.append(d),
        **{**FAST, "workers": 1},
    )
    assert done[0] == 48
    assert out.read_bytes() == (tmp_path / "whole.fits").read_bytes()


def case(name, folder, tmp_path):
    cube = folder / "cube.fits"
    if name == "missing image":
        return {"images": [tmp_path / "no-{band}.fits"]}, CutoutError, "no such file"
    if name == "nothing":
        return {}, GalmorphError, "Name one of these"
    if name == "both":
        return {"survey": cube, "images": [cube]}, GalmorphError, "Name one of these"
    if name == "catalog without positions":
        (tmp_path / "t.csv").write_text("id\n1\n")
        return {"survey": cube, "kind": "field", "catalog": tmp_path / "t.csv"}, CatalogError, "positions"
    if name == "catalog without WCS":
        (tmp_path / "t.csv").write_text("ra,dec\n1,2\n")
        with fits.open(cube) as hdus:
            cards = {"BANDS": "grz", "PIXSCALE": 0.262}
            fits.writeto(tmp_path / "n.fits", hdus[0].data[:, :100, :100], fits.Header(cards))
        return {"survey": tmp_path / "n.fits", "kind": "field", "catalog": tmp_path / "t.csv"}, CatalogError, "no WCS"
    if name == "catalog of cutouts":
        (tmp_path / "t.csv").write_text("ra,dec,cutout\n1,2,a.fits\n")
        return {"survey": tmp_path / "t.csv", "catalog": tmp_path / "t.csv"}, GalmorphError, "goes with survey images"
    if name == "output is an image":
        return {"survey": cube, "kind": "field", "out": cube, "overwrite": True}, OutputError, "one of the images"
    if name == "zero point":
        return {"survey": cube, "kind": "field", "zero_point": "thirty"}, GalmorphError, "g=25.1,r=24.9"
    if name == "zero point of another band":
        return {"survey": cube, "kind": "field", "zero_point": "i=30"}, CutoutError, "has the bands g, r, z"
    if name == "zero point of cutouts":
        (tmp_path / "t.csv").write_text("ra,dec,cutout\n1,2,a.fits\n")
        return {"survey": tmp_path / "t.csv", "zero_point": "30"}, GalmorphError, "is for survey images"
    if name == "unit":
        fits.writeto(tmp_path / "u_g.fits", np.zeros((60, 60), np.float32))
        fits.writeto(tmp_path / "u_r.fits", np.zeros((60, 60), np.float32))
        return {"images": [tmp_path / "u_{band}.fits"]}, CutoutError, "BUNIT"
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name",
    [
        *("missing image", "nothing", "both", "catalog without positions", "catalog without WCS"),
        *("catalog of cutouts", "output is an image", "unit"),
        *("zero point", "zero point of another band", "zero point of cutouts"),
    ],
)
def test_wrong_usage_is_a_clear_error_and_writes_nothing(folder, tmp_path, model, name):
    options, error, message = case(name, folder, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message) as caught:
        classify(model=model, device="cpu", dtype="float32", **options)
    assert caught.value.exit_code == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_command_line(folder, model, catalog, tmp_path):
    arguments = ["classify", "--images", folder / "legacysurvey-1m2-image-{band}.fits.fz", "--catalog", catalog]
    arguments += ["--model", model, "--out", tmp_path / "o.fits", "--zero-point", "g=22.5", "--json", "--strict"]
    result = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert result.exit_code == 1, "two rows have no probability"
    assert json.loads(result.stdout.splitlines()[-1])["failed"] == 2
    assert fits.getheader(tmp_path / "o.fits", 1)["GMZEROPT"] == "g=22.5"


def test_a_large_image_is_a_field(model, tmp_path):
    flux = np.random.default_rng(0).normal(0, 0.01, (3, 1030, 1030)).astype(np.float32)
    fits.writeto(tmp_path / "big.fits", flux, fits.Header({"BANDS": "grz", "PIXSCALE": 0.262}))
    assert classify(tmp_path / "big.fits", model=model, **{**FAST, "kind": None}).targets == 0


# Real images


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["kids", "sdss"])
def test_galaxies_injected_into_real_images_are_found(shared, name):
    planes, fwhm_px = real_planes(shared / "fits", name, slice(600, 1500) if name == "kids" else slice(None))
    placed, galaxies = refound(planes, fwhm_px, 60)
    assert len(placed) >= 25
    assert (matched(placed, galaxies, 3.0) >= 0).mean() >= 0.95


@pytest.mark.real_data
def test_a_real_mosaic_without_wcs_and_unit_is_classified_with_zero_points(shared, model, tmp_path):
    for band, name in (("g", "g"), ("r", "r"), ("z", "Z")):
        with fits.open(shared / "fits" / "mosaic-kids-viking" / f"{name}.fits") as hdus:
            fits.writeto(tmp_path / f"m_{band}.fits", hdus[1].data[900:1400, 900:1400])
    images = [tmp_path / "m_{band}.fits"]
    with pytest.raises(CutoutError, match="--zero-point"):
        classify(images=images, model=model, **FAST)
    summary = classify(images=images, model=model, zero_point={"g": 0, "r": 0, "z": 30}, **FAST)
    table = Table.read(tmp_path / "m_morph.fits")
    assert summary.classified == len(table) > 20
    assert {"x", "y"} < set(table.colnames)
    assert not {"ra", "dec"} & set(table.colnames)
    magnitudes = {band: 23.9 - 2.5 * math.log10(np.median(table[f"flux_{band}"])) for band in "grz"}
    # As bright and as red as the faint galaxies of the survey are, so the zero points are the right ones.
    assert 18 < magnitudes["z"] < magnitudes["r"] < magnitudes["g"] < 25


def test_an_image_that_sep_cannot_measure_is_refused(monkeypatch, tmp_path):
    import sep

    def overflow(*arguments, **options):
        raise Exception("invalid aperture parameters")

    write_cutout(cutout("f", side=100), tmp_path / "f.fits")
    planes = read_planes(str(tmp_path / "f.fits"), None, None)
    monkeypatch.setattr(sep, "sum_ellipse", overflow)
    with pytest.raises(CutoutError, match="objects of the image f cannot be measured: invalid aperture"):
        detect(planes)
