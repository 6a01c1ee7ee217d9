"""Real catalogs: every byte of theirs comes back, and the programs that astronomers use find nothing to add."""

import csv

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from tablemaking import CARDS, COLUMNS, PROBABILITY, append, fitsverify, stilts_meta, values

from galmorph.errors import CatalogError
from galmorph.tables.catalog import open_catalog

pytestmark = pytest.mark.real_data

# File -> HDU, rows, columns of position, identifier and size as they are found, the first identifier.
FITS = {
    "catalog-ngc/ngcic.fits": (1, 13226, ("ra", "dec"), "name", None, "NGC 5154"),
    "catalog-nsa-decals/gordon_joint_catalog_no_cuts.fits": (
        *(1, 790, ("ra", "dec"), "objID", "petroth90"),
        "588848899898015962",
    ),
    "catalog-sdss-atlas/sdss_atlas.fits": (1, 1130, None, "NAME", None, "NSA ID 142450"),
    "catalog-tractor/sweep-310m005-320p000.fits": (1, 6, ("RA", "DEC"), "OBJID", None, "312906_0"),
    "catalog-tractor/tractor-3301m002.fits": (1, 6, ("RA", "DEC"), "OBJID", None, "330248_0"),
    "catalog-tractor/targets.fits": (1, 1001, ("RA", "DEC"), None, None, "0"),
    "targets-upload/example-cat.fits": (1, 4, ("ra", "dec"), "name", None, "A"),
    "sdss-frame-small/photoObj-001000-1-0100.fits": (1, 19, ("RA", "DEC"), "OBJID", None, "1237649768107474963"),
    "sdss-frame-small/fpM-001000-r1-0100.fit": (1, 162, None, None, None, "0"),
    "odd-astropy/variable_length_table.fits": (1, 2, None, None, None, "0"),
    "odd-astropy/dss.14.29.56-62.41.05.fits.gz": (1, 15, None, None, None, "0"),
    "des-host/driver2016_t3data.fits": (1, 1496, None, None, None, "0"),
}


# The plate scans of the DSS have cards that are not FITS, which astropy repairs aloud.
@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
@pytest.mark.parametrize("name", FITS)
def test_fits_tables(shared, tmp_path, name):
    source = shared / "fits" / name
    hdu, n_rows, pair, id_column, size_column, first = FITS[name]
    catalog = open_catalog(source)
    assert (catalog.n_rows, catalog.id_column, catalog.size_column) == (n_rows, id_column, size_column)
    assert (catalog.ra_column, catalog.dec_column) == (pair or (None, None))
    block = next(catalog.blocks(n_rows))
    assert block.id[0] == first
    assert set(block.problem) == {""}
    destination = tmp_path / source.name
    append(source, destination, n_blocks=5)

    with fits.open(source, memmap=False) as old, fits.open(destination, memmap=False, checksum=True) as new:
        assert len(new) == len(old)
        for i, (before, after) in enumerate(zip(old, new, strict=True)):
            cards = {str(card) for card in after.header.cards}
            changed = ("NAXIS1", "TFIELDS", "THEAP") if i == hdu or "VOTMETA" in before.header else ()
            assert [str(c) for c in before.header.cards if c.keyword not in changed and str(c) not in cards] == []
            if i != hdu and "VOTMETA" not in before.header:
                assert before.header.tostring() == after.header.tostring()
        width = old[hdu].header["NAXIS1"]
        raw = [np.asarray(table[hdu].data).view("u1").reshape(n_rows, -1) for table in (old, new)]
        assert np.array_equal(raw[1][:, :width], raw[0])
        for column in old[hdu].columns:
            cells = [[np.asarray(cell).tolist() for cell in table[hdu].data[column.name]] for table in (old, new)]
            assert repr(cells[0]) == repr(cells[1])
            assert new[hdu].columns[column.name].unit == column.unit
        assert np.array_equal(new[hdu].data["p_spiral"], values(n_rows)["p_spiral"], equal_nan=True)
    assert set(fitsverify(destination)) <= set(fitsverify(source))


@pytest.mark.parametrize("name", ["des-host/driver2016_t3data.fits", "catalog-tractor/tractor-3301m002.fits"])
def test_stilts_reads_all_that_it_read_before(shared, tmp_path, name):
    source = shared / "fits" / name
    append(source, tmp_path / "out.fits")
    before, after = stilts_meta(source), stilts_meta(tmp_path / "out.fits")
    assert {name: after[name] for name in before} == before
    assert after["p_spiral"] == ("", PROBABILITY.description, PROBABILITY.ucd)


def test_columns_are_replaced_in_a_wide_table(shared, tmp_path):
    source = shared / "fits" / "catalog-tractor" / "tractor-3301m002.fits"
    append(source, tmp_path / "out.fits")
    before = (tmp_path / "out.fits").read_bytes()
    append(tmp_path / "out.fits", tmp_path / "out.fits", replace=True)
    assert (tmp_path / "out.fits").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "id_column", "first"),
    [("targets-csv/Galaxy10_coord.csv", "", "0"), ("targets-upload/example-cat.csv", "name", "A")],
)
def test_csv_tables(shared, tmp_path, name, id_column, first):
    source = shared / "fits" / name
    catalog = append(source, tmp_path / "out.csv")
    assert catalog.id_column == id_column
    assert next(catalog.blocks(1)).id.tolist() == [first]
    old, new = source.read_bytes().splitlines(), (tmp_path / "out.csv").read_bytes().splitlines()
    assert len(new) == len(old)
    assert all(after.startswith(before + b",") for before, after in zip(old, new, strict=True))
    assert sum(len(block.row) for block in catalog.blocks(1000)) == catalog.n_rows
    with (tmp_path / "out.csv").open() as file:
        assert {len(row) for row in csv.reader(file)} == {len(catalog.column_names)}


def test_the_identifiers_of_galaxy_zoo(shared):
    folder = shared / "data" / "galaxyzoo2_stripe82"
    catalog = open_catalog(folder / "training_solutions_rev1.csv")
    assert next(catalog.blocks(1)).id.tolist() == ["8647474693043847335"]
    assert catalog.read(["GalaxyID"])["GalaxyID"][0] == 8647474693043847335


@pytest.mark.parametrize("suffix", [".ecsv", ".vot", ".parquet"])
def test_a_real_table_in_other_formats(shared, tmp_path, suffix):
    source = shared / "fits" / "catalog-nsa-decals" / "gordon_joint_catalog_no_cuts.fits"
    table = Table.read(source)
    table.write(tmp_path / f"in{suffix}", format="votable" if suffix == ".vot" else None)
    new = append(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    old = open_catalog(source)
    for one, other in zip(old.blocks(300), new.blocks(300), strict=True):
        assert one.id.tolist() == other.id.tolist()
        assert np.array_equal(one.ra, other.ra)
        assert one.radius_arcsec == pytest.approx(other.radius_arcsec, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("odd-astropy/random_groups.fits", r"HDU 0 \(random groups\)"),
        ("odd-astropy/comp.fits", "holds no table"),
        ("odd-empty/emptyfile.fits", "holds no table"),
        ("ls-cubes/temp_small.fits", "holds no table"),
        ("ls-truncated/example_incomplete.fits", "is truncated"),
        ("ls-coadd-damaged/cut_legacysurvey-0394m202-invvar-g.fits.fz", "holds no table"),
        ("INVENTORY.md", "line 7: 2 cells, but the header names 1"),
    ],
)
def test_what_is_no_catalog(shared, name, reason):
    with pytest.raises(CatalogError, match=reason):
        open_catalog(shared / "fits" / name)


def test_every_file_is_a_catalog_or_says_why_not(shared, tmp_path):
    messages = {}
    for path in sorted((shared / "fits").rglob("*.f*")):
        try:
            catalog = open_catalog(path)
        except CatalogError as error:
            messages[path] = str(error)
        else:
            catalog.append(tmp_path / "out.fits", COLUMNS, [values(catalog.n_rows)], cards=CARDS)
    assert [path for path, message in messages.items() if str(path) not in message] == []
