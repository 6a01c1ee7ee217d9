"""Which columns hold positions, identifiers and cutouts, under the names that surveys and programs write."""

import re
from pathlib import Path

import numpy as np
import pytest

from galmorph.errors import CatalogError
from galmorph.tables.catalog import catalog_of, open_catalog
from galmorph.tables.formats import TableField
from galmorph.tables.positions import Frame
from galmorph.tables.roles import _EQUATORIAL, _OTHER_FRAMES, find_roles, id_candidates, plain_name
from galmorph.tables.systems import named_frame


def make(path, text):
    """A file with this text."""
    path.write_text(text)
    return path


def roles(*names, frame="icrs", **options):
    return find_roles([TableField(name) for name in names], Frame(frame), **options)


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (("ra_1", "dec_1"), (0, 1)),  # a cross-match by TOPCAT
        (("ra_x", "dec_x"), (0, 1)),  # a join by pandas
        (("RA_2", "DEC_2", "ra", "dec"), (2, 3)),
        (("NUMBER", "ALPHA_J2000", "DELTA_J2000", "ALPHAWIN_J2000", "DELTAWIN_J2000"), (1, 2)),  # SExtractor
        (("ALPHAWIN_J2000", "DELTAWIN_J2000", "X_WORLD", "Y_WORLD"), (0, 1)),
        (("X_WORLD", "Y_WORLD"), (0, 1)),
        (("ALPHA_SKY", "DELTA_SKY"), (0, 1)),
        (("coord_ra", "coord_dec"), (0, 1)),  # Rubin
        (("OBJECT_ID", "RIGHT_ASCENSION", "DECLINATION"), (1, 2)),  # Euclid
        (("label", "sky_centroid.ra", "sky_centroid.dec"), (1, 2)),  # photutils
        (("position.ra", "position.dec"), (0, 1)),  # a SkyCoord of astropy
        (("xra", "xdec"), (None, None)),
        (("mangaid", "objra", "objdec", "ifura", "ifudec"), (1, 2)),  # MaNGA
        (("objectId", "ra", "decl"), (1, 2)),  # Rubin
        (("CATAID", "RAcen", "Deccen"), (1, 2)),  # GAMA
        (("Name", "R.A.", "Dec."), (1, 2)),
        (("Name", "R.A. (J2000)", "Decl. (J2000)"), (1, 2)),
        (("TARGNAME", "RA_TARG", "DEC_TARG"), (1, 2)),  # Hubble
        (("source_id", "world_centroid_alpha", "world_centroid_delta"), (1, 2)),  # SourceXtractor++
        (("COADD_OBJECTS_ID", "ALPHAWIN_J2000_DET", "DELTAWIN_J2000_DET"), (1, 2)),  # DES
        (("Name", "ra_hms", "dec_dms"), (1, 2)),
        (("Name", "ra_hms", "dec_dms", "ra_deg", "dec_deg"), (3, 4)),
        (("Name", "RAB1950", "DEB1950"), (None, None)),
        (("obj_ra", "obj_dec"), (0, 1)),
        (("i_ra", "i_dec"), (0, 1)),  # HSC
        (("objname", "al2000", "de2000"), (1, 2)),  # HyperLeda
        (("Object Name", "RA(deg)", "DEC(deg)"), (1, 2)),  # NED
        (("Right Ascension", "Declination"), (0, 1)),
        (("RA [deg]", "Dec [deg]"), (0, 1)),
        (("ra_err", "dec_err"), (None, None)),
        (("pm_ra", "pm_dec"), (None, None)),
        (("ra_1", "dec_2"), (None, None)),
    ],
)
def test_positions(names, pair):
    found = roles(*names)
    assert (found.ra, found.dec) == pair
    assert found.unclear == ""


@pytest.mark.parametrize("names", [("ra_1", "dec_1", "ra_2", "dec_2"), ("g_ra", "g_dec", "r_ra", "r_dec")])
def test_two_positions_are_unclear(names):
    found = roles(*names)
    assert (found.ra, found.dec) == (None, None)
    assert "could all be the position: say which with --ra-column and --dec-column" in found.unclear
    assert roles(*names, ra_column=names[2], dec_column=names[3]).ra == 2


IDENTIFIERS = [
    "BRICK_OBJID",
    *("NUMBER", "COADD_OBJECT_ID", "CATAID", "PGC", "main_id", "NSAID", "designation", "id_str", "iauname", "dr8_id"),
    *(
        "Object Name",
        "OBJID",
        "objID",
        "objname",
        "id_1",
        "NUMBER_2",
        "diaObjectId",
        "objectId",
        "OBJECT_ID",
        "GalaxyID",
    ),
    *(
        "SGA_ID",
        "QUICK_OBJECT_ID",
        "unwise_objid",
        "SDSS_NAME",
        "specObjID",
        "mangaid",
        "plateifu",
        "SOURCE_ID",
        "targetid",
        "survey_id",
        "asset_id",
        "SEQNR",
        "ID",
        "Unnamed: 0",
    ),
]


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_identifiers(name):
    assert roles("ra", "dec", name, "mag").id == 2


def test_a_label_is_an_identifier_beside_columns_of_photutils_only():
    assert roles("label", "xcentroid", "ycentroid").id == 0
    assert roles("label", "ra", "dec").id is None
    assert id_candidates([TableField("label")]) == [0]


def test_candidates_come_in_order():
    names = ("Unnamed: 0", "label", "NUMBER", "id_1", "objid")
    assert [names[i] for i in id_candidates([TableField(name) for name in names])] == [
        "objid",
        "NUMBER",
        "id_1",
        "label",
        "Unnamed: 0",
    ]


@pytest.mark.parametrize(
    "name", ["cutout", "file_loc", "filename", "path", "file", "cutout_path", "fits_path", "png_loc"]
)
def test_cutouts(name):
    assert roles("ra", "dec", name).cutout == 2
    assert roles(name, "cutout").cutout == (1 if name != "cutout" else 0)


def test_numbers_are_no_paths():
    assert find_roles([TableField("path", text=False)], Frame("icrs")).cutout is None


@pytest.mark.parametrize(
    ("name", "plain"),
    [("RA [deg]", "ra"), ("RA(deg)", "ra"), (" Object Name ", "object_name"), ("Unnamed: 0", "unnamed:_0")],
)
def test_plain_names(name, plain):
    assert plain_name(name) == plain


def test_decimal_hours_of_hyperleda(tmp_path):
    path = make(tmp_path / "a.csv", "objname,al2000,de2000\nNGC1,2.5,-3\n")
    assert next(open_catalog(path).blocks(1)).ra.tolist() == [37.5]


def test_units_in_names(tmp_path):
    path = make(tmp_path / "a.csv", "RA [hourangle],Dec [deg]\n2,3\n")
    assert next(open_catalog(path).blocks(1)).ra.tolist() == [30]


class Table:
    """Positions of Rubin with a unit, or without one."""

    def __init__(self, ra, dec, unit=""):
        self.fields = (TableField("coord_ra", unit), TableField("coord_dec", unit))
        self.n_rows = len(ra)
        self.columns = np.array(ra, float), np.array(dec, float)

    def blocks(self, positions, n_rows, start):
        yield [self.columns[position] for position in positions]


def test_radians_of_rubin(tmp_path):
    catalog = catalog_of(Table([np.pi / 2], [0.5], "rad"), tmp_path, "memory")
    assert next(catalog.blocks(1)).ra.tolist() == [90]
    assert catalog_of(Table([150.0, 0.5], [2.0, 1.0]), tmp_path, "memory").has_positions  # degrees: too large
    with pytest.raises(CatalogError, match=r"coord_ra, coord_dec have no unit and may be in radians or in degrees"):
        catalog_of(Table([1.5], [0.5]), tmp_path, "memory")
    named = {"ra_column": "coord_ra", "dec_column": "coord_dec"}
    assert next(catalog_of(Table([1.5], [0.5]), tmp_path, "memory", **named).blocks(1)).ra.tolist() == [1.5]


def test_a_catalog_that_needs_no_position(tmp_path):
    path = make(tmp_path / "a.csv", "ra,ra,dec,cutout\n1,2,3,a.fits\n")
    with pytest.raises(CatalogError, match="could all be the position"):
        open_catalog(path)
    catalog = open_catalog(path, needs_position=False)
    assert not catalog.has_positions
    assert "could all be the position" in catalog.no_position
    assert next(catalog.blocks(1)).cutout.tolist() == ["a.fits"]


def documented(row):
    """The names of columns in a row of the table of names in docs/files.md."""
    text = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith(f"| {row} "))
    return [
        name for name in re.findall("`([^`]+)`", line.split("|")[2]) if ";" not in name and not name.startswith("_1")
    ]


@pytest.mark.parametrize(
    ("row", "role"), [("identifier", "id"), ("path of the cutout", "cutout"), ("radius (R90)", "size")]
)
def test_the_documented_names_are_found(row, role):
    names = documented(row)
    assert len(names) >= 2
    for name in names:
        if not name.startswith("_") and name != "label":
            assert getattr(roles(name, "mag"), role) == 0, name


def test_the_documented_positions_are_found():
    pairs = {plain: pair for tier in _EQUATORIAL for pair in tier for plain in pair}
    for name in documented("position"):
        if name not in ("ra_1", "ra_x", "obj_ra", "i_ra", "position.ra", "decl"):
            found = roles(*pairs[plain_name(name)])
            assert (found.ra, found.dec) == (0, 1), name


def test_the_documented_positions_in_other_systems_are_found():
    tiers = [*_EQUATORIAL[-1:], *(tier for _, tiers in _OTHER_FRAMES.values() for tier in tiers)]
    pairs = {plain: pair for tier in tiers for pair in tier for plain in pair}
    names = documented("position in another system")
    assert len(names) > 10
    for name in names:
        fields = [TableField(each, "deg") for each in pairs[plain_name(name)]]
        found = find_roles(fields, None)
        assert (found.ra, found.dec) == (0, 1), name
        assert named_frame([field.name for field in fields]), name


@pytest.mark.parametrize(
    ("name", "unit", "arcsec"),
    [
        ("petroR90_r", "", 1),
        ("petroR90_r [arcmin]", "", 60),
        ("petroR90_r (arcsec)", "", 1),
        ("PETROTH90 (mas)", "", 1e-3),
        ("petroR90_r_1", "", 1),
        ("petroR90_r (r)", "", 1),
        ("petroR90_r [arcmin]", "deg", 3600),
        ("petroR90_r (pix)", "", None),
        ("petroR90_r [kpc]", "", None),
        ("petroR90_r", "pix", None),
    ],
)
def test_units_of_sizes(name, unit, arcsec):
    fields = [TableField("id"), TableField(name, unit)]
    if arcsec is None:
        assert find_roles(fields, None).size is None
        with pytest.raises(CatalogError, match=r"has the unit '(pix|kpc)', which is none of angle"):
            find_roles(fields, None, size_column=name)
        return
    for options in ({}, {"size_column": name}):
        found = find_roles(fields, None, **options)
        assert (found.size, found.size_scale) == (1, pytest.approx(arcsec))


def test_two_sizes_of_a_cross_match_are_none():
    assert find_roles([TableField("petroR90_r_1"), TableField("petroR90_r_2")], None).size is None
