"""Text tables as programs of the world write them: read and kept, or refused by their name."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from tablemaking import COLUMNS, append

from galmorph.errors import CatalogError
from galmorph.tables.catalog import open_catalog

COMMAS = "id;ra;dec;petroR90_r;cutout\ng1;150,138454;\N{MINUS SIGN}2,174382;10,224;a.fits\ng2;1,5;2,2;1.234,5;b.fits\n"
VIZIER = (
    "#\n#   VizieR Astronomical Server\n#Column\t_RAJ2000\t(F9.5)\tRA\n#\n"
    "_RAJ2000\t_DEJ2000\tName\tcutout\n{units}\n---------\t---------\t-----\t-------\n"
    "150.13845\t+2.17438\tg1\tg1.fits\n150.06155\t+2.17438\tg2\tg2.fits\n\n"
)


def make(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def targets(path):
    (block,) = open_catalog(path).blocks(100)
    return block


def test_decimal_commas(tmp_path):
    source = make(tmp_path / "in.csv", COMMAS)
    block = targets(source)
    assert block.ra.tolist() == [150.138454, 1.5]
    assert block.dec.tolist() == [-2.174382, 2.2]
    assert block.radius_arcsec.tolist() == [10.224, 1234.5]
    assert block.cutout.tolist() == ["a.fits", "b.fits"]
    append(source, tmp_path / "out.csv")
    old, new = source.read_text().splitlines(), (tmp_path / "out.csv").read_text().splitlines()
    assert all(line.startswith(f"{before};") for before, line in zip(old, new, strict=True))
    frame = pd.read_csv(tmp_path / "out.csv", sep=";", decimal=",")
    assert frame["p_spiral"].tolist()[1] == pytest.approx(1 / 7)
    assert targets(tmp_path / "out.csv").radius_arcsec.tolist() == [10.224, 1234.5]


def test_identifiers_and_paths_with_commas_keep_their_text(tmp_path):
    text = "id;ra;dec;petroR90_r;cutout;note\n1,1;150,5;2,5;4,5;1,1;3,5\n2,10;151,5;-2,5;1.234,5;2,10;x\n"
    source = make(tmp_path / "in.csv", text)
    block = targets(source)
    assert (block.id.tolist(), block.cutout.tolist()) == (["1,1", "2,10"], ["1,1", "2,10"])
    assert (block.ra.tolist(), block.radius_arcsec.tolist()) == ([150.5, 151.5], [4.5, 1234.5])
    read = open_catalog(source).read(["ra", "note"])
    assert read["ra"].tolist() == [150.5, 151.5]
    assert read["note"].tolist() == ["3,5", "x"]


def test_rubins_positions_with_decimal_commas_are_looked_at_for_radians(tmp_path):
    with pytest.raises(CatalogError, match="may be in radians or in degrees"):
        open_catalog(make(tmp_path / "in.csv", "id;coord_ra;coord_dec\na;1,5;0,25\nb;1,25;0,5\n"))


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_decimal_commas_beside_any_delimiter(tmp_path, delimiter):
    rows = [["name", "ra", "dec"], ["a", "150,1385", "2,25"], ["b", "150,0", "-2,5"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    append(make(tmp_path / "in.csv", text.getvalue()), tmp_path / "out.csv")
    assert targets(tmp_path / "out.csv").ra.tolist() == [150.1385, 150]
    with (tmp_path / "out.csv").open() as file:
        assert list(csv.reader(file, delimiter=delimiter))[2][3] == "0,14285715"


def test_decimal_commas_with_pandas(tmp_path):
    frame = pd.DataFrame({"id": ["a", "b"], "ra": [10.5, 11.25], "dec": [1.0, np.nan]})
    frame.to_csv(tmp_path / "in.csv", sep=";", decimal=",", index=False)
    block = targets(tmp_path / "in.csv")
    assert block.ra.tolist()[0] == 10.5
    assert block.problem.tolist() == ["", "dec is empty"]


@pytest.mark.parametrize(
    "text",
    [
        "id;ra;dec;note\na;1.5;2.5;1,2\nb;2.5;3.5;x\n",
        'id,ra,dec,n\na,1.5,2.5,"1,000"\nb,2.5,3.5,"12,345"\n',
        'id,n\na,"1,000"\nb,"12,345"\n',
    ],
)
def test_points_stay_points(tmp_path, text):
    append(make(tmp_path / "in.csv", text), tmp_path / "out.csv")
    assert "0.14285715" in (tmp_path / "out.csv").read_text().splitlines()[2]


@pytest.mark.parametrize("units", ["deg\tdeg\t \t ", "deg\tdeg\t\t", "\t\t\t"])
def test_lines_of_units_and_dashes_are_no_galaxies(tmp_path, units):
    text = VIZIER.format(units=units)
    append(make(tmp_path / "in.tsv", text), tmp_path / "out.tsv")
    catalog = append(tmp_path / "out.tsv", tmp_path / "again.tsv", replace=True)
    assert catalog.n_rows == 2
    block = targets(tmp_path / "again.tsv")
    assert (block.id.tolist(), block.ra.tolist()) == (["g1", "g2"], [150.13845, 150.06155])
    lines = (tmp_path / "again.tsv").read_text().split("\n")
    assert lines[5:7] == text.split("\n")[5:7]
    assert lines[4].endswith("\tcutout\tp_spiral\tmorph_flag\tmorph_label")


def test_the_units_of_vizier_are_obeyed(tmp_path):
    text = (
        VIZIER.format(units='"h:m:s"\t"d:m:s"\t\t').replace("150.13845", "10 00 33.2").replace("+2.17438", "+02 10 30")
    )
    block = targets(make(tmp_path / "in.tsv", text.replace("150.06155", "10 00 14.8")))
    assert block.problem.tolist() == ["", ""]
    assert block.ra[0] == pytest.approx(15 * (10 + 33.2 / 3600))
    assert block.dec[0] == pytest.approx(2 + 10.5 / 60)


@pytest.mark.parametrize(
    ("line", "degrees"),
    [(",deg,deg,", 0.5), ("-,[deg],(deg),", 0.5), (",rad,rad,", np.degrees(0.5)), ("id,hourangle,deg,mag", 7.5)],
)
def test_a_second_line_of_units(tmp_path, line, degrees):
    text = f"id,ra,dec,mag\n{line}\na,0.5,0.25,17.5\nb,0.6,0.5,18\n"
    catalog = append(make(tmp_path / "in.csv", text), tmp_path / "out.csv")
    assert catalog.n_rows == 2
    assert targets(tmp_path / "out.csv").ra[0] == pytest.approx(degrees)
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == line


@pytest.mark.parametrize(
    ("lines", "degrees"),
    [
        ("5S\t10N\t10N\t6N", 0.5),  # RDB
        ("S\tN\tN\tN", 0.5),
        ("char(5)\tfloat8\tfloat8\tint4", 0.5),
        ("varchar\tdouble precision\treal\tbigint", 0.5),
        ("string\tfloat64\tfloat64\tint64\n\thourangle\tdeg\tmag", 7.5),
        ("\thourangle\tdeg\tmag\nstring\tfloat64\tfloat64\tint64", 7.5),
        ("5S\t10N\t10N\t6N\n---\t---\t---\t---", 0.5),
        ("5S\t10N\t10N\t6N\n\trad\trad\t\n---\t---\t---\t---", np.degrees(0.5)),
    ],
)
def test_lines_of_types(tmp_path, lines, degrees):
    text = f"# an RDB table\nname\tra\tdec\tmag\n{lines}\na\t0.5\t0.25\t17\nb\t0.6\t0.5\t18\n"
    append(make(tmp_path / "in.rdb.tsv", text), tmp_path / "out.tsv")
    block = targets(tmp_path / "out.tsv")
    assert block.id.tolist() == ["a", "b"]
    assert block.ra[0] == pytest.approx(degrees)
    assert lines in (tmp_path / "out.tsv").read_text()


@pytest.mark.parametrize("row", ["S\tM", "m\tS", "N\tN"])
def test_galaxies_of_short_names_are_no_lines_of_types(tmp_path, row):
    assert open_catalog(make(tmp_path / "in.tsv", f"name\tclass\n{row}\ns\tM\n")).n_rows == 2


@pytest.mark.parametrize("row", ["m,,,", "a,,,17.5", "deg,,,", "g1,n/a,n/a,", "g1,m,x,", "s,-,-,-"])
def test_a_first_galaxy_without_a_position_is_no_line_of_units(tmp_path, row):
    text = f"id,ra,dec,mag\n{row}\na,0.5,0.25,17.5\n"
    assert open_catalog(make(tmp_path / "in.csv", text)).n_rows == 2


def test_identifiers_that_are_units_are_rows(tmp_path):
    assert open_catalog(make(tmp_path / "in.csv", "id,cutout\nm,kg\ns,deg\n")).n_rows == 2


@pytest.mark.parametrize(("first", "delimiter"), [("sep=;", ";"), ("sep=|", "|"), ('"sep=,"', ","), ("SEP=\t", "\t")])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_line_that_names_the_delimiter(tmp_path, first, delimiter, bom):
    text = f"{bom}{first}\r\n" + "id ra dec\r\na 1.5 2\r\n".replace(" ", delimiter)
    catalog = append(make(tmp_path / "in.csv", text), tmp_path / "out.csv")
    assert catalog.n_rows == 1
    assert targets(tmp_path / "out.csv").ra.tolist() == [1.5]
    assert (tmp_path / "out.csv").read_bytes().decode().startswith(f"{bom}{first}\r\nid{delimiter}ra")


def test_bars_between_cells(tmp_path):
    text = "id|ra|dec\na|1.5|2\nb|2.5|3\n"
    append(make(tmp_path / "in.txt", text), tmp_path / "out.txt")
    assert targets(tmp_path / "out.txt").ra.tolist() == [1.5, 2.5]
    assert (tmp_path / "out.txt").read_text().splitlines()[2] == "b|2.5|3|0.14285715|1|class1"


SEXTRACTOR = (
    "#   1 NUMBER    Running object number\n#   2 ALPHA_J2000  Right ascension [deg]\n  1 150.1 2.2\n  2 150.2 2.3\n"
)
IPAC = "\\x = 1\n|  id |   ra |  dec |\n| int | real | real |\n    1   1.5    2.5 \n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SEXTRACTOR, "catalog of SExtractor with an ASCII head.*FITS_1.0.*ascii.sextractor"),
        ("id ra dec\n1 1.5 2.5\n2 2.5 3.5\n", "blanks between its columns"),
        ("# id ra dec\n1 1.5 2.5\n2 2.5 3.5\n", "blanks between its columns"),
        ("  1  1.5 2.5\n  2  2.5 3.5\n", "blanks between its columns"),
        (IPAC, "drawn with |"),
        ("| id | ra |\n|----|----|\n| 1 | 1.5 |\n", "drawn with |"),
        (" id | ra  \n----+-----\n  1 | 1.5 \n(1 row)\n", r"drawn with \| and \+"),
        ("Title: x\n====\nByte-by-byte Description of file: t.txt\n----\n", "machine-readable table.*ascii.mrt"),
        ("Table name: a\n+------+-----+\n| name | ra  |\n+------+-----+\n| g1   | 1.5 |\n", r"drawn with \+ and \|"),
        ("+------+-----+\n| name | ra  |\n+------+-----+\n| g1   | 1.5 |\n", "drawn with"),
        ("a\n\n# This TST file\n\nname\tra\n----\t--\ng1\t1.5\n[EOD]\n", "Starlink"),
        ("QueryResult\n\nid\tra\n-----\n1\t1.5\n", "SkyCat"),
        ("# Region file format: DS9 version 4.1\nfk5\ncircle(150.1,2.2,5)\n", "region file of DS9"),
        ("\\begin{tabular}{lll}\nname & ra & dec \\\\\n g1 & 1 & 2\\\\\n", "LaTeX.*ascii.latex"),
        ("#Table\ta\nid\tra\n1\t2.5\n#Table\tb\nid\tx\n1\t2\n", "several tables of VizieR"),
    ],
)
def test_other_kinds_of_text_tables_are_refused_by_name(tmp_path, text, reason):
    with pytest.raises(CatalogError, match=reason):
        open_catalog(make(tmp_path / "in.cat", text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('fk5\ncircle(150.1,2.1,5")\n', "a region file of DS9"),
        ('fk5;circle(150.1,2.1,5")\nfk5;circle(150.2,2.1,5")\n', "a region file of DS9"),
        ("global color=green\nfk5\nbox(150.1,2.1,1,1,0)\n", "a region file of DS9"),
        ("C.D.S.  -  SIMBAD4 rel 1.8  -  2024\n\nNumber of objects : 2\n", "a list of SIMBAD"),
        ("#| identifier |typ|\n-|------------|---|\n1|M 31|G|\n", "in place of names"),
        ("My galaxies,,\nid,ra,dec\n1,150,2\n", "'My galaxies,,' in place of names"),
        ("My galaxies\nid,ra,dec\n1,150,2\n", "line 2: 3 cells, but the header names 1"),
    ],
)
def test_what_stands_before_the_names_is_no_header(tmp_path, text, reason):
    with pytest.raises(CatalogError, match=reason):
        open_catalog(make(tmp_path / "in.csv", text))


@pytest.mark.parametrize("end", ["(2 rows)", "\x1a", "\n(1 row affected)", "(2 rows)\n\n"])
def test_the_number_of_rows_behind_them_is_no_galaxy(tmp_path, end):
    source = make(tmp_path / "in.csv", f"id,ra,dec\n1,150,2\n(a),151,3\n{end}\n")
    assert targets(source).id.tolist() == ["1", "(a)"]
    append(source, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().endswith(f"class1\n{end}\n")


@pytest.mark.parametrize("name", ["l", "id", "cutout", "label"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "fits", "vot", "ecsv", "parquet"])
def test_tables_of_one_column(tmp_path, name, suffix):
    source = tmp_path / f"in.{suffix}"
    if suffix in ("csv", "tsv"):
        make(source, f"{name}\na\nb;c\nd|e\n")
    else:
        Table({name: ["a", "b;c", "d|e"]}).write(source, **({"format": "votable"} if suffix == "vot" else {}))
    after = append(source, tmp_path / f"out.{suffix}", n_blocks=1)
    assert after.column_names == (name, *(column.name for column in COLUMNS))
    assert after.read([name, "morph_label"])[name].tolist() == ["a", "b;c", "d|e"]
    assert not after.has_positions


def test_what_sextractor_writes_is_the_kind_that_is_refused(tmp_path):
    path = make(tmp_path / "in.cat", SEXTRACTOR.replace(" 2.2", "").replace(" 2.3", ""))
    assert Table.read(path, format="ascii.sextractor").colnames == ["NUMBER", "ALPHA_J2000"]
    with pytest.raises(CatalogError, match="SExtractor"):
        open_catalog(path)


def test_names_with_numbers_in_a_table_of_one_column(tmp_path):
    assert open_catalog(make(tmp_path / "in.csv", "galaxy name\nNGC 1234\nUGC 12\n")).n_rows == 2


def test_a_line_without_end_is_bounded(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(b"id,note\na," + b"x" * (1 << 25) + b"\nb,c\n")
    with pytest.raises(CatalogError, match="a line of more than 16 MiB"):
        open_catalog(path)
    path.write_bytes(b'id,note\na,"' + b"x" * 200_000 + b'"\n')
    with pytest.raises(CatalogError, match="a cell has more than 131072 characters"):
        open_catalog(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"galmorph": {}, "columns": [1]}', r"in.csv.json: columns\[0\] does not describe a column"),
        ('{"galmorph": {}, "columns": 1}', r"columns\[0\] does not describe a column"),
        ('{"galmorph": {}, "columns": [{"unit": "deg"}]}', r"columns\[0\] has no name"),
        ('{"galmorph": {}, "columns": [{"name": "id", "unit": 5}]}', r"columns\[0\] does not describe"),
        ('{"galmorph": [1]}', "in.csv.json: galmorph's record"),
        ('{"galmorph": {"cards": [{"value": 1}]}}', r"cards\[0\] is no card"),
    ],
)
def test_a_description_of_another_shape(tmp_path, text, reason):
    make(tmp_path / "in.csv.json", text)
    with pytest.raises(CatalogError, match=reason):
        open_catalog(make(tmp_path / "in.csv", "id,ra,dec\na,1,2\n"))


@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', "nonsense", "[" * 100_000])
def test_a_description_that_is_not_ours_is_ignored(tmp_path, text):
    make(tmp_path / "in.csv.json", text)
    assert open_catalog(make(tmp_path / "in.csv", "id,ra,dec\na,1,2\n")).n_rows == 1


def test_new_columns_follow_the_convention_only_where_there_is_one(tmp_path):
    append(make(tmp_path / "in.csv", "id;cutout\na;a.fits\nb;b.fits\n"), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[2] == "b;b.fits;0.14285715;1;class1"
    assert [c.name for c in COLUMNS] == (tmp_path / "out.csv").read_text().splitlines()[0].split(";")[2:]
