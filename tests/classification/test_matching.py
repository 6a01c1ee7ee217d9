"""Which file is the cutout of which row."""

import logging

import pytest
from results_made import results

from galmorph.classification.matching import match
from galmorph.classification.results import read_results
from galmorph.errors import CatalogError
from galmorph.tables.catalog import open_catalog


def make(path, text):
    """A file with this text."""
    path.write_text(text)
    return path


@pytest.fixture
def folder(tmp_path):
    """Files 1.fits to 4.fits; nothing is opened."""
    (tmp_path / "cut").mkdir()
    for name in "1234":
        (tmp_path / "cut" / f"{name}.fits").touch()
    return tmp_path / "cut"


def files(path, text, cutouts=None, **columns):
    """The files of a catalog's rows: their names, or the reasons."""
    catalog = open_catalog(make(path / "t.csv", text), needs_position=False, **columns)
    catalog, found = match(catalog, cutouts, path)
    rows = [found.of(*row) for block in catalog.blocks(100) for row in zip(block.cutout, block.id, strict=True)]
    return [row if isinstance(row, str) else row.name for row in rows]


@pytest.mark.parametrize("name", ["NUMBER", "label", "COADD_OBJECT_ID", "CATAID", "id_1", "PGC", "main_id", "dr8_id"])
def test_identifiers_are_not_row_numbers(tmp_path, folder, name):
    assert files(tmp_path, f"{name},mag\n2,15\n3,16\n", folder) == ["2.fits", "3.fits"]


def test_a_catalog_without_identifiers_is_refused_and_the_column_is_named(tmp_path, folder):
    with pytest.raises(CatalogError, match=r"\(it has key, mag\).*--id-column \(values of key "):
        files(tmp_path, "key,mag\n2,15\n3,16\n", folder)
    assert files(tmp_path, "key,mag\n2,15\n", folder, id_column="key") == ["2.fits"]
    with pytest.raises(CatalogError, match="no column of identifiers"):
        files(tmp_path, "mag,z\n15.5,0.5\n", folder)


@pytest.mark.parametrize("text", ["1,x\n2,y\n", "1.fits,x\n2.fits,y\n", "a,1\nb,2\n"])
def test_a_table_without_a_line_of_names_is_not_short_of_a_galaxy(tmp_path, folder, text):
    with pytest.raises(CatalogError, match=r"The first line of .* names a cutout.*is a galaxy's"):
        files(tmp_path, text, folder)


def test_row_numbers_of_pandas_are_no_identifiers(tmp_path, folder):
    rows = "".join(f"{row},{row + 15.5}\n" for row in range(4))
    with pytest.raises(CatalogError, match="no column of identifiers"):
        files(tmp_path, f",mag\n{rows}", folder)
    assert files(tmp_path, f",NUMBER\n{''.join(f'{row},{row + 1}{chr(10)}' for row in range(3))}", folder) == [
        "1.fits",
        "2.fits",
        "3.fits",
    ]
    assert files(tmp_path, ",mag\n2,1\n4,1\n", folder) == ["2.fits", "4.fits"]


def test_row_numbers_of_r_are_no_identifiers(tmp_path, folder):
    with pytest.raises(CatalogError, match="no column of identifiers"):
        files(tmp_path, '"","mag"\n"1",15\n"2",16\n"3",17\n', folder)


@pytest.mark.parametrize("cell", ['"=""2"""', "'2"])
def test_identifiers_that_a_spreadsheet_took_for_text(tmp_path, folder, cell):
    assert files(tmp_path, f"id,mag\n{cell},15\n", folder) == ["2.fits"]


def test_the_column_whose_values_name_files_is_the_identifier(tmp_path, folder):
    assert files(tmp_path, "id,NUMBER\n1001,2\n1002,3\n", folder) == ["2.fits", "3.fits"]
    assert files(tmp_path, "id,NUMBER\n2,2\n3,3\n", folder) == ["2.fits", "3.fits"]


def test_two_columns_that_name_different_files(tmp_path, folder):
    with pytest.raises(CatalogError, match=r"columns id and NUMBER .* different ones.*--id-column"):
        files(tmp_path, "id,NUMBER\n2,1\n3,2\n", folder)
    assert files(tmp_path, "id,NUMBER\n2,1\n", folder, id_column="NUMBER") == ["1.fits"]


def test_a_column_that_names_no_file_where_another_does(tmp_path, folder):
    with pytest.raises(CatalogError, match=r"names no file in .* by its column id.*values of cut_nr"):
        files(tmp_path, "id,cut_nr\n1001,2\n", folder)


@pytest.mark.parametrize("number", ["2.0", "2.", "2e0", "2.0E+00"])
def test_identifiers_as_floats(tmp_path, folder, number):
    assert files(tmp_path, f"id,mag\n1.0,3\n{number},4\n", folder) == ["1.fits", "2.fits"]


def test_floats_that_lost_digits_are_said(tmp_path, folder):
    (reason,) = files(tmp_path, "objID,mag\n1.23765E+18,15.5\n", folder)
    assert "may have lost their last digits: write them as integers or as text" in reason


def test_names_with_blanks(tmp_path, folder):
    (folder / "NGC_1068.fits").touch()
    assert files(tmp_path, "main_id,mag\nNGC  1068,4\n", folder) == ["NGC_1068.fits"]


def test_rows_without_an_identifier_and_without_a_file(tmp_path, folder):
    first, second, third = files(tmp_path, "id,mag\n1,4\n,5\n77,6\n", folder)
    assert first == "1.fits"
    assert "without an identifier" in second
    assert "77: there is no cutout of this name" in third


def test_identifiers_of_several_rows_are_said_once(tmp_path, folder, caplog):
    with caplog.at_level(logging.WARNING):
        assert files(tmp_path, "id,mag\n1,4\n1,5\n2,6\n2,6\n", folder) == ["1.fits", "1.fits", "2.fits", "2.fits"]
    assert len([r for r in caplog.records if "more than one row" in r.message]) == 1


def test_two_files_of_one_name(tmp_path, folder):
    (folder / "1.fits.gz").touch()
    first, second = files(tmp_path, "id,mag\n1,4\n2,5\n", folder)
    assert "several cutouts have this name" in first
    assert second == "2.fits"


@pytest.mark.parametrize("name", ["file_loc", "filename", "path", "cutout_path"])
def test_columns_of_paths(tmp_path, folder, name):
    assert files(tmp_path, f"id_str,{name}\nx,cut/2.fits\n", None) == ["2.fits"]


def test_a_file_name_that_is_no_cutout_gives_way_to_identifiers(tmp_path, folder):
    assert files(tmp_path, "NUMBER,filename\n2,image_of_all.fits\n", folder) == ["2.fits"]
    with pytest.raises(CatalogError, match=r"column filename .* names no file under .*--cutout-column"):
        files(tmp_path, "NUMBER,filename\n2,image_of_all.fits\n", None)


def test_the_column_that_the_user_names(tmp_path, folder):
    assert files(tmp_path, "id,where\n1,cut/3.fits\n", None, cutout_column="where") == ["3.fits"]


def test_absolute_paths(tmp_path, folder):
    table = f"id,cutout\na,{folder}/1.fits\nb,{folder}/2.fits\n"
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(CatalogError, match=r"absolute paths .* outside .*--cutouts /"):
        files(other, table)
    assert files(other, table, "/") == ["1.fits", "2.fits"]
    assert files(other, table, folder) == ["1.fits", "2.fits"]
    assert files(tmp_path, table) == ["1.fits", "2.fits"]


def test_links_lead_out_of_the_folder_where_the_user_names_it(tmp_path, folder):
    (tmp_path / "store" / "deep").mkdir(parents=True)
    (tmp_path / "store" / "far.fits").touch()
    (folder / "l.fits").symlink_to(tmp_path / "store" / "far.fits")
    (folder / "sub").symlink_to(tmp_path / "store" / "deep")
    text = "id,cutout\na,l.fits\nb,1.fits\nc,sub/../far.fits\nd,../store/far.fits\n"
    beside = files(folder, text)
    allowed = (
        f"is a link to {tmp_path / 'store' / 'far.fits'}, outside {folder}: allow such links with --cutouts {folder}."
    )
    assert beside[0] == f"a: the cutout l.fits {allowed}"
    assert beside[1] == "1.fits"
    named = files(folder, text, folder)
    assert named[:2] == ["l.fits", "1.fits"]
    for rows in (beside, named):  # a path that goes up may not leave it, with links or without
        assert all("lies outside" in row for row in rows[2:])
    (folder / "t.csv").unlink()
    assert files(tmp_path, "id,mag\nl,15\n1,16\n", folder) == ["l.fits", "1.fits"]


def test_paths_that_cannot_be_opened_are_the_rows_reason(tmp_path, folder):
    (folder / "l.fits").symlink_to("l.fits")
    good, loop, outside = files(tmp_path, "id,cutout\na,cut/1.fits\nb,cut/l.fits\nc,../x.fits\n")
    assert good == "1.fits"
    assert loop == "l.fits" or "cannot be opened" in loop
    assert "lies outside" in outside


def test_a_nul_in_a_path_is_the_rows_reason(tmp_path, folder):
    catalog = open_catalog(make(tmp_path / "t.csv", "id,cutout\na,cut/1.fits\n"))
    _, found = match(catalog, None, tmp_path)
    assert "cannot be opened" in found.of("cut/0\0.fits", "b")


def test_no_cutouts_and_no_folder(tmp_path):
    with pytest.raises(CatalogError, match=r"no column 'cutout'.*--cutout-column, or give --cutouts DIR"):
        files(tmp_path, "id,mag\n1,2\n")
    with pytest.raises(CatalogError, match="is not a folder"):
        files(tmp_path, "id,mag\n1,2\n", tmp_path / "none")


def test_results_whose_cutouts_are_not_clear_have_reasons(tmp_path, folder):
    results(tmp_path / "r.csv", n=2)
    text = (tmp_path / "r.csv").read_text().split("\n", 1)
    make(tmp_path / "r.csv", text[0].replace("id,", "key,", 1).replace("cutout", "was") + "\n" + text[1])
    rows = read_results(tmp_path / "r.csv").cutouts(folder)
    assert len(rows) == 2
    assert all("no column of identifiers" in reason for reason, *_ in rows)


TRACTOR = "brickid,objid,ra,dec\n11,1,10,0\n11,2,11,0\n12,1,12,0\n"


def test_objid_of_tractor_is_unique_with_its_brick(tmp_path, folder):
    for name in ("11_1", "11_2", "12_1"):
        (folder / f"{name}.fits").touch()
    assert files(tmp_path, TRACTOR, folder) == ["11_1.fits", "11_2.fits", "12_1.fits"]
    (block,) = open_catalog(tmp_path / "t.csv").blocks(10)
    assert block.id.tolist() == ["11_1", "11_2", "12_1"]
    assert next(open_catalog(tmp_path / "t.csv", id_column="objid").blocks(10)).id.tolist() == ["1", "2", "1"]


def test_files_that_are_named_by_objid_alone(tmp_path, folder):
    assert files(tmp_path, "\n".join(TRACTOR.splitlines()[:3]), folder) == ["1.fits", "2.fits"]
    with pytest.raises(CatalogError, match=r"objid is unique only within one brickid, and 1 .*<brickid>_<objid>\.fits"):
        files(tmp_path, TRACTOR, folder)


def test_numbers_of_sextractor_are_unique_with_their_tile(tmp_path):
    make(tmp_path / "t.csv", "TILENAME,NUMBER,ALPHA_J2000,DELTA_J2000\nDES01,1,10,0\nDES02,1,11,0\nDES02,,12,0\n")
    (block,) = open_catalog(tmp_path / "t.csv").blocks(10)
    assert block.id.tolist() == ["DES01_1", "DES02_1", ""]
