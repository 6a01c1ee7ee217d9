"""Seeded fuzzing of the cutouts and survey images: a damaged one is a row with a flag, or refused in a message."""

import io
import math

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import strategies as st
from made import cutout
from mutations import ODD, fuzzed, mutated, tried

from galmorph.classification.opening import open_survey
from galmorph.classification.options import ClassifyOptions
from galmorph.classification.prepare import UNUSABLE, prepare
from galmorph.images.cutout import cutout_chunks
from galmorph.images.flags import Flag
from galmorph.images.framing import Framing
from galmorph.models.card import ModelCard, survey_inputs

CARD = ModelCard("m", "mobilenet_v2", "galaxyzoo2", survey_inputs(64, Framing(radii=5.12), (0.5,) * 3, (0.5,) * 3))


def own(**options):
    return b"".join(map(bytes, cutout_chunks(cutout("a", side=24, **options))))


def foreign(kind):
    """A cutout as a service sends it: plain, tile-compressed, or with the planes in HDUs of their own."""
    made = cutout("a", side=24, survey="")
    header = made.header.copy()
    header["BANDS"], header["BUNIT"] = "grz", "nanomaggy"
    out = io.BytesIO()
    if kind == "tiles":
        hdus = [fits.PrimaryHDU(), fits.CompImageHDU(made.flux, header, compression_type="GZIP_1")]
    elif kind == "planes":
        del header["BANDS"]
        hdus = [fits.PrimaryHDU()]
        for band, plane in zip("grz", made.flux, strict=True):
            hdus.append(fits.ImageHDU(plane, header, name=band))
            hdus[-1].header["BAND"] = band
    else:
        hdus = [fits.PrimaryHDU(made.flux, header)]
    fits.HDUList(hdus).writeto(out, checksum=kind == "plain")
    return out.getvalue()


KINDS = {"own": own(), "plain": foreign("plain"), "tiles": foreign("tiles"), "planes": foreign("planes")}
KEYWORDS = ["NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "BITPIX", "BSCALE", "BZERO", "BLANK", "PCOUNT", "GCOUNT", "BANDS"]
KEYWORDS += ["CRVAL1", "CRPIX1", "CDELT1", "CD1_1", "CTYPE1", "CUNIT1", "LONPOLE", "RADESYS", "EQUINOX", "PIXNATIV"]
KEYWORDS += ["PIXSCALE", "RADIUS", "MAGZERO", "BUNIT", "EXPTIME", "SURVEY", "ZNAXIS1", "ZTILE1", "ZCMPTYPE", "SATURATE"]
KEYWORDS += [
    "A_ORDER",
    "B_ORDER",
    "A_0_2",
    "PV1_1",
    "PV2_3",
    "EXTEND",
    "GROUPS",
    "SIMPLE",
    "XTENSION",
    "END",
    "EXTNAME",
]


@st.composite
def with_cards(draw, content):
    """Return a file whose first or second header has cards more or other values of those that it has."""
    body = bytearray(content)
    for keyword in draw(st.lists(st.sampled_from(KEYWORDS), min_size=1, max_size=3)):
        value = draw(
            st.sampled_from([*ODD, "32", "-64", "1E10", "'RA---TPV'", "'DEC--SIP'", "'grzzz'", "3000", "9999"])
        )
        text = f"{keyword:<8}= {value:>20}".encode("latin-1", "replace").ljust(80)[:80]
        at = body.find(f"{keyword:<8}=".encode())
        if at >= 0 and at % 80 == 0:
            body[at : at + 80] = text
        elif (end := body.find(b"END".ljust(80))) > 0 and end % 2880 < 2880 - 80:
            body[end : end + 160] = text + b"END".ljust(80)
    return bytes(body)


def check(path):
    made, _ = tried(lambda: prepare(path, CARD, math.nan, position=(150.0, 2.0), locate=True))
    assert made is not None, "a cutout that cannot be read is a row with a flag"
    if made.flux is None:
        assert made.flag & (UNUSABLE | Flag.OFF_CENTRE)
        assert made.reason
    else:
        assert made.flux.shape == (3, 64, 64)
        assert np.isfinite(made.flux).all()


@pytest.mark.parametrize("kind", KINDS)
def test_cutouts(tmp_path, kind):
    @fuzzed(60, content=mutated(KINDS[kind]) | with_cards(KINDS[kind]))
    def damaged(content):
        path = tmp_path / "a.fits"
        path.write_bytes(content)
        check(path)

    damaged()


def field_bytes():
    return foreign("plain")


def test_survey_images(tmp_path):
    (tmp_path / "t.csv").write_text("id,ra,dec\na,150.0,2.0\nb,150.0005,2.0\nc,10,80\n")

    @fuzzed(60, content=mutated(KINDS["plain"]) | with_cards(KINDS["plain"]))
    def damaged(content):
        path = tmp_path / "f.fits"
        path.write_bytes(content)
        import torch

        for catalog in (tmp_path / "t.csv", None):
            options = ClassifyOptions(kind="field", catalog=catalog)
            source, error = tried(lambda o=options: open_survey(path, o))
            if error:
                continue
            _, error = tried(source.open)
            if error:
                continue
            rows = [row for block in source.blocks(4, 0) for row in block]
            made, error = tried(lambda s=source, r=rows: s.prepare(r, CARD, torch.device("cpu")))
            assert error or len(made) == len(rows)

    damaged()
