"""Which columns of a catalog hold the position, the identifier, the size and the cutout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from galmorph import registry
from galmorph.errors import CatalogError
from galmorph.tables.formats import TableField
from galmorph.tables.positions import Frame, scale
from galmorph.tables.systems import named_frame
from galmorph.tables.units import is_unit

# Names as `plain_name` gives them. A pair of an earlier line is preferred; two pairs of one line are ambiguous. VizieR
# adds _RAJ2000 (computed, in degrees) beside the RAJ2000 of the paper, and RA_ICRS where the paper's own is something
# else. SExtractor writes several estimates of one position. `_OTHER_PAIRS` come before the last lines.
_EQUATORIAL = (
    (("ra", "dec"),),
    (("ra_icrs", "de_icrs"), ("ra_icrs", "dec_icrs")),
    (("_raj2000", "_dej2000"),),
    (
        ("ra_deg", "dec_deg"),
        ("radeg", "decdeg"),
        ("radeg", "dedeg"),
        ("raj2000", "dej2000"),
        ("raj2000", "decj2000"),
        ("ra_j2000", "dec_j2000"),
        ("target_ra", "target_dec"),
        ("alpha_j2000", "delta_j2000"),
        ("ramean", "decmean"),
        ("s_ra", "s_dec"),
        ("right_ascension", "declination"),
        ("coord_ra", "coord_dec"),
        ("al2000", "de2000"),
        ("sky_centroid.ra", "sky_centroid.dec"),
        ("ra2000", "dec2000"),
        ("ra_d", "dec_d"),
        ("ra_degrees", "dec_degrees"),
        ("ra", "decl"),
        ("r.a.", "dec."),
        ("r.a.", "decl."),
        ("objra", "objdec"),
        ("racen", "deccen"),
        ("ra_targ", "dec_targ"),
        ("ra_obj", "dec_obj"),
        ("matchra", "matchdec"),
    ),
    (("ra_hms", "dec_dms"), ("rastring", "decstring")),
    (("alphawin_j2000", "deltawin_j2000"), ("alphawin_j2000_det", "deltawin_j2000_det")),
    (("world_centroid_alpha", "world_centroid_delta"),),
    (("alphapeak_j2000", "deltapeak_j2000"),),
    (("alphapsf_j2000", "deltapsf_j2000"), ("alphamodel_j2000", "deltamodel_j2000")),
    (("alpha_sky", "delta_sky"), ("alphawin_sky", "deltawin_sky")),
    (("x_world", "y_world"), ("xwin_world", "ywin_world")),
    (("ramedian", "decmedian"), ("rastack", "decstack")),
    (
        ("rab1950", "deb1950"),
        ("_rab1950", "_deb1950"),
        ("ra_b1950", "dec_b1950"),
        ("ra_b1950", "de_b1950"),
        ("rab1950", "decb1950"),
        ("ra1950", "dec1950"),
        ("ra1950", "de1950"),
        ("ra_1950", "dec_1950"),
        ("ra_1950", "de_1950"),
        ("al1950", "de1950"),
        ("alpha_b1950", "delta_b1950"),
        ("alpha_1950", "delta_1950"),
    ),
)
_GALACTIC = (
    (("glon", "glat"), ("l", "b"), ("gal_lon", "gal_lat"), ("gal_l", "gal_b"), ("lii", "bii")),
    (("galactic_longitude", "galactic_latitude"),),
)
_ECLIPTIC = ((("elon", "elat"), ("ecl_lon", "ecl_lat"), ("ecliptic_longitude", "ecliptic_latitude")),)
_SUPERGALACTIC = ((("sgl", "sgb"), ("supergalactic_longitude", "supergalactic_latitude")),)
# UCDs and names of positions that are not equatorial, by frame.
_OTHER_FRAMES = {
    "galactic": (("pos.galactic.lon", "pos.galactic.lat"), _GALACTIC),
    "supergalactic": (("pos.supergalactic.lon", "pos.supergalactic.lat"), _SUPERGALACTIC),
    "barycentricmeanecliptic": (("pos.ecliptic.lon", "pos.ecliptic.lat"), _ECLIPTIC),
}
# Names that other quantities have too: a position only with a unit of angle, or in a frame that the user named.
_SHORT = frozenset(("l", "b"))
# Names with the additions of cross-matches (ra_1), joins of data frames (ra_x) and SkyCoord columns (position.ra).
_STEMS = (
    *(("ra", "dec"), ("ra", "de"), ("raj2000", "dej2000"), ("alpha_j2000", "delta_j2000")),
    *(("right_ascension", "declination"), ("alphawin_j2000", "deltawin_j2000"), ("x_world", "y_world")),
)
_BEFORE = ("obj", "object", "src", "source", "gal", "galaxy", "plug", "u", "g", "r", "i", "z", "y")
_AFTER = re.compile(r"(.+?)(_\d{1,2}|_[xy])")
# Columns that are in another unit than degrees where they name none: decimal hours of HyperLeda.
_DEFAULT_UNITS = {"al2000": "hourangle", "al1950": "hourangle"}
# Rubin's are in radians or in degrees, by the way they were exported.
_RADIANS_OR_DEGREES = ("coord_ra", "coord_dec")

# Identifiers as the surveys name them, the likeliest first.
_IDS = (
    *("objid", "object_id", "obj_id", "id", "targetid", "target_id", "galaxyid", "galaxy_id", "source_id", "sourceid"),
    *("ls_id", "dr8objid", "dr7objid", "iauname", "sga_id", "name", "object", "unnamed:_0"),
    *("coadd_object_id", "coadd_objects_id", "objectid", "diaobjectid", "id_str", "dr8_id", "cataid", "nsaid"),
    *("nsa_id", "nsa_nsaid", "pgc", "pgcname", "main_id", "designation", "object_name", "objname", "iau_name"),
    *("galaxy", "galaxy_name", "galaxyname", "gal_id", "galid", "specobjid", "mangaid", "plateifu", "survey_id"),
    *("zooniverse_id", "asset_id", "subject_id", "unique_id", "uniqueid", "uid", "uuid", "identifier", "source"),
    *("source_name", "src_id", "srcid", "sdss_id", "sdssid", "sdss_objid", "hsc_id", "photoid", "photo_id"),
    *("quick_object_id", "unwise_objid", "galex_id", "thing_id", "matchid", "sdss_name", "allwise"),
    *("gal_name", "targname", "obj_no", "objno", "brick_objid", "catalogue_id"),
    *("catalog_id", "cat_id", "catid", "number", "seqnr", "seq_nr", "cutout_id", "image_id"),
)
# Also a class that people gave: an identifier only beside columns that photutils writes.
_LABEL = "label"
_PHOTUTILS = frozenset(("xcentroid", "x_centroid", "segment_flux", "sky_centroid.ra", "bbox_xmin", "semimajor_sigma"))
_ROW_INDICES = ("", "unnamed:_0")
# Identifiers that are unique within a brick or a tile only, and the columns that say which: with it they are unique.
_WITHIN = {
    "objid": ("brickid", "brickname"),
    "brick_objid": ("brickid", "brickname"),
    "number": ("tilename", "tile_name", "tile"),
}
# Petrosian R90, as SDSS, the NASA-Sloan Atlas and Galaxy Zoo 2 name it (without `_`, in lower case).
_SIZES = ("petror90r", "petror90", "petroth90r", "petroth90")
_CUTOUT = "cutout"
# Names of columns of files, as in Zoobot; the file may also be the image of a detection.
_FILES = (
    *("file_loc", "fits_loc", "local_fits_loc", "cutout_path", "cutout_file", "cutout_loc", "file_path", "filepath"),
    *("filename", "file_name", "path", "file", "image_path", "image_file", "fits_path", "fits_file"),
    *("png_loc", "jpg_loc", "jpeg_loc", "cutout_filename", "cutout_name", "image_loc", "image_name", "img_path", "img"),
)
# Hours, minutes, seconds and degrees, minutes, seconds of tables of CDS and AAS, and the sign of the latter.
_PARTS, _SIGN = ("RAh", "RAm", "RAs", "DEd", "DEm", "DEs"), "DE-"
_UNIT_IN_NAME = re.compile(r"(.+?)[\s_]*[\[(]([^\[\]()]+)[\])]\s*")


@dataclass(frozen=True)
class Roles:
    """The positions (from 0) of the columns that galmorph reads; None where the catalog has none.

    Attributes
    ----------
    size_scale : float
        Turns the size column into arcsec.
    within : int or None
        The column of the brick within which identifiers are unique: Tractor's ``brickid`` beside ``objid``.
    chosen : frozenset of str
        Those of ``ra``, ``dec``, ``id``, ``size``, ``cutout`` that the user named.
    unclear : str
        Why there is no position though columns look like one, or ''.
    """

    ra: int | None
    dec: int | None
    id: int | None
    size: int | None
    cutout: int | None
    size_scale: float
    chosen: frozenset[str] = frozenset()
    unclear: str = ""
    within: int | None = None

    @property
    def columns(self) -> list[int]:
        """The positions of all these columns, each once, in order."""
        every = (self.ra, self.dec, self.id, self.within, self.size, self.cutout)
        return sorted({position for position in every if position is not None})


def find_roles(
    fields: Sequence[TableField],
    frame: Frame | None,
    *,
    ra_column: str | None = None,
    dec_column: str | None = None,
    id_column: str | None = None,
    size_column: str | None = None,
    cutout_column: str | None = None,
) -> Roles:
    """Return the roles of the columns: those that the options name, else by UCD, else by the usual names.

    Without a frame, the position is equatorial where there is such a one, else galactic, supergalactic or ecliptic.

    Raises
    ------
    CatalogError
        If an option names no column.
    """
    if (ra_column is None) != (dec_column is None):
        raise CatalogError("--ra-column and --dec-column go together: give both, or neither")
    pair: tuple[int | None, int | None] = (None, None)
    unclear = ""
    if ra_column is not None and dec_column is not None:
        pair = named(fields, ra_column, "--ra-column"), named(fields, dec_column, "--dec-column")
    else:
        pairs = _find_pairs(fields, frame)
        if len(pairs) == 1:
            pair = pairs[0]
        elif pairs:
            names = ", ".join(dict.fromkeys(fields[i].name for axis in zip(*pairs, strict=True) for i in axis))
            unclear = f"{names} could all be the position: say which with --ra-column and --dec-column"
    size, size_scale = _find_size(fields, size_column)
    id = _find_id(fields) if id_column is None else named(fields, id_column, "--id-column")
    given = {"ra": ra_column, "dec": dec_column, "id": id_column, "size": size_column, "cutout": cutout_column}
    return Roles(
        ra=pair[0],
        dec=pair[1],
        id=id,
        within=None
        if id is None or id_column is not None
        else _first(fields, _WITHIN.get(plain_name(fields[id].name), ())),
        size=size,
        cutout=_find_cutout(fields) if cutout_column is None else named(fields, cutout_column, "--cutout-column"),
        size_scale=size_scale,
        chosen=frozenset(role for role, name in given.items() if name is not None),
        unclear=unclear,
    )


def usefulness(fields: Sequence[TableField]) -> int:
    """Return how useful a table is as a catalog of galaxies.

    8 with labels that galmorph wrote, 4 with cutouts, 2 with positions, 1 with identifiers; the sum.
    """
    classified = any(field.name.lower().endswith("morph_label") for field in fields)
    cutout = _first(fields, [_CUTOUT]) is not None
    return 8 * classified + 4 * cutout + 2 * bool(_find_pairs(fields, None)) + (_find_id(fields) is not None)


def no_position(names: Sequence[str], path: Path) -> str:
    """Return what to do about a file whose columns hold no position that galmorph knows.

    Positions as hours, minutes, ... in columns of their own are not read, since such tables state the equinox in prose.
    """
    if not set(_PARTS) <= set(names):
        return (
            "It has no columns of positions that galmorph knows: name them with --ra-column and --dec-column. Its "
            f"columns: {', '.join(names)}."
        )
    ra, dec = (f"t['{a}'] + t['{b}'] / 60 + t['{c}'] / 3600" for a, b, c in (_PARTS[:3], _PARTS[3:]))
    sign = "(1 - 2 * (filled(t['DE-'], '') == '-')) * " if _SIGN in names else ""
    return (
        f'The position is in parts ({", ".join(_PARTS)}). If it is of J2000 or ICRS, join them: python -c "from '
        f"astropy.table import Table; from numpy.ma import filled; t = Table.read('{path}'); "
        f"t['ra'] = 15 * ({ra}); t['dec'] = {sign}({dec}); t['ra'].unit = t['dec'].unit = 'deg'; "
        f"t.write('{path.stem}_deg.fits')\""
    )


def plain_name(name: str) -> str:
    """Return a column's name in lower case, without a unit in brackets, and with ``_`` for blanks and hyphens."""
    name = name.strip()
    with_unit = _UNIT_IN_NAME.fullmatch(name)
    return re.sub(r"[\s-]+", "_", (with_unit[1] if with_unit else name).lower())


def with_unit(field: TableField) -> TableField:
    """Return a position's column with the unit that its name states or implies, where it has none itself."""
    if field.unit.strip():
        return field
    if plain_name(field.name) in _DEFAULT_UNITS:
        return replace(field, unit=_DEFAULT_UNITS[plain_name(field.name)])
    stated = _UNIT_IN_NAME.fullmatch(field.name.strip())
    if stated:
        with suppress(CatalogError):
            scale(named_unit := replace(field, unit=stated[2]), "deg")
            return named_unit
    return field


def is_row_index(name: str) -> bool:
    """Return whether a column has the name, or none, under which pandas writes row numbers."""
    return plain_name(name) in _ROW_INDICES


def may_be_radians(field: TableField) -> bool:
    """Return whether a column of positions that names no unit may be in radians as well as in degrees."""
    return not field.unit.strip() and plain_name(field.name) in _RADIANS_OR_DEGREES


def named(fields: Sequence[TableField], name: str, option: str) -> int:
    """Return the position of the column `name`; case is ignored if no column has exactly this name.

    Raises
    ------
    CatalogError
        If there is no such column, or more than one. The message begins with `option`.
    """
    positions = [i for i, field in enumerate(fields) if field.name == name]
    positions = positions or [i for i, field in enumerate(fields) if field.name.lower() == name.strip().lower()]
    if not positions:
        raise CatalogError(f"{option}: {registry.unknown('column', name, [field.name for field in fields])}")
    if len(positions) > 1:
        raise CatalogError(f"{option}: {len(positions)} columns are named {name!r}; rename all but one")
    return positions[0]


def _ucd_words(field: TableField) -> list[str]:
    """Return the words of a UCD, the old ``POS_EQ_RA_MAIN`` as the new ``pos.eq.ra;meta.main``."""
    ucd = field.ucd.strip().lower()
    if "_" in ucd and "." not in ucd:
        ucd = ucd.removesuffix("_main").replace("_", ".") + (";meta.main" if ucd.endswith("_main") else "")
        ucd = "meta." + ucd if ucd.startswith("id") else ucd
    return [word.strip() for word in ucd.split(";")]


def _find_pairs(fields: Sequence[TableField], frame: Frame | None) -> list[tuple[int, int]]:
    """Return the pairs of columns that may be the position, all equally likely."""
    if frame is not None and not frame.equatorial:
        kind = "barycentricmeanecliptic" if "ecliptic" in frame.name else frame.name
        return _pairs_of(fields, *_OTHER_FRAMES[kind])
    usable = fields
    if frame is not None:  # columns that state the other equinox are not in this frame
        old = frame.name.startswith("fk4")
        others = [
            i for i, f in enumerate(fields) if (stated := named_frame([f.name])) is not None and old != bool(stated)
        ]
        usable = [replace(field, scalar=field.scalar and i not in others) for i, field in enumerate(fields)]
    pairs = _pairs_of(usable, ("pos.eq.ra", "pos.eq.dec"), _EQUATORIAL)
    if pairs or frame is not None:
        return pairs
    angles = [
        replace(f, scalar=f.scalar and (plain_name(f.name) not in _SHORT or _is_angle(with_unit(f)))) for f in fields
    ]
    return next(filter(None, (_pairs_of(angles, *names) for names in _OTHER_FRAMES.values())), [])


def _is_angle(field: TableField) -> bool:
    with suppress(CatalogError):
        return bool(field.unit.strip()) and scale(field, "deg") > 0
    return False


def _pairs_of(
    fields: Sequence[TableField], ucds: tuple[str, str], tiers: Sequence[Sequence[tuple[str, str]]]
) -> list[tuple[int, int]]:
    scalar = [(i, field) for i, field in enumerate(fields) if field.scalar]
    words = {i: _ucd_words(field) for i, field in scalar}
    tied: list[tuple[int, int]] = []
    for kinds in ([{"meta.main"}], [set(), {"meta.main"}]):
        lons, lats = ([i for i, w in words.items() if w[0] == ucd and set(w[1:]) in kinds] for ucd in ucds)
        if len(lons) == len(lats) == 1:
            return [(lons[0], lats[0])]
        if lons and lats:
            tied = tied or list(product(lons, lats))
    by_name: dict[str, list[int]] = {}
    for i, field in scalar:
        by_name.setdefault(plain_name(field.name), []).append(i)
    for tier in tiers:
        pairs = [(i, j) for lon, lat in tier for i in by_name.get(lon, ()) for j in by_name.get(lat, ())]
        if len(pairs) == 1:
            return pairs
        if pairs:
            return tied or pairs
    return tied or (_other_pairs(by_name, _STEMS) if tiers is _EQUATORIAL else _skycoord(scalar, tiers))


def _skycoord(
    scalar: Sequence[tuple[int, TableField]], tiers: Sequence[Sequence[tuple[str, str]]]
) -> list[tuple[int, int]]:
    """Return the pairs of columns that astropy makes of a SkyCoord in a frame that is not equatorial."""
    by_name: dict[str, list[int]] = {}
    for i, field in scalar:
        if "." in field.name and field.frame:
            by_name.setdefault(plain_name(field.name), []).append(i)
    return _other_pairs(by_name, [*(pair for tier in tiers for pair in tier), ("lon", "lat")])


def _other_pairs(by_name: Mapping[str, Sequence[int]], stems: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    """Return the pairs of columns with usual names plus the same word before or after."""
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for name, positions in by_name.items():
        before, dot, stem = name.rpartition(".")
        after = ""
        if not dot:
            numbered = _AFTER.fullmatch(name)
            stem, after = numbered.groups() if numbered else (name, "")
            first, _, rest = stem.partition("_")
            before, stem = (first, rest) if first in _BEFORE and rest else ("", stem)
        if before or after:
            groups.setdefault((before, after), {})[stem] = positions[0]
    pairs = []
    for columns in groups.values():
        pairs += [(columns[lon], columns[lat]) for lon, lat in stems if lon in columns and lat in columns][:1]
    return pairs


def id_candidates(fields: Sequence[TableField]) -> list[int]:
    """Return the positions of the columns that may be the identifier, the likeliest first.

    Row numbers that pandas wrote (a column without a name) are the last.
    """
    scalar = [(i, field) for i, field in enumerate(fields) if field.scalar]
    main = [i for i, field in scalar if {"meta.id", "meta.main"} <= set(_ucd_words(field))]
    order = {name: n for n, name in enumerate(_IDS) if name not in _ROW_INDICES}
    ranked: list[tuple[int, int, int]] = []
    for i, field in scalar:
        name = plain_name(field.name)
        numbered = _AFTER.fullmatch(name)
        if name in order:
            ranked.append((0, order[name], i))
        elif numbered and numbered[1] in order:
            ranked.append((1, order[numbered[1]], i))
        elif name == _LABEL:
            ranked.append((2, 0, i))
        elif name in _ROW_INDICES and (name or i == 0):
            ranked.append((3, 0, i))
    return list(dict.fromkeys([*(main if len(main) == 1 else []), *(i for *_, i in sorted(ranked))]))


def _find_id(fields: Sequence[TableField]) -> int | None:
    names = {plain_name(field.name) for field in fields}
    for i in id_candidates(fields):
        if plain_name(fields[i].name) != _LABEL or names & _PHOTUTILS:
            return i
    return None


def _find_cutout(fields: Sequence[TableField]) -> int | None:
    sure = _first(fields, [_CUTOUT])
    if sure is not None:
        return sure
    return _first([replace(field, scalar=field.scalar and field.text is not False) for field in fields], _FILES)


def _first(fields: Sequence[TableField], names: Sequence[str]) -> int | None:
    by_name = {plain_name(field.name): i for i, field in reversed(list(enumerate(fields))) if field.scalar}
    return next((by_name[name] for name in names if name in by_name), None)


def _find_size(fields: Sequence[TableField], size_column: str | None) -> tuple[int | None, float]:
    if size_column is not None:
        size = named(fields, size_column, "--size-column")
        if not fields[size].scalar:
            raise CatalogError(f"--size-column: column {size_column!r} holds an array in each cell")
        return size, scale(_with_any_unit(fields[size]), "arcsec")
    plain = {i: plain_name(field.name).replace("_", "") for i, field in enumerate(fields) if field.scalar}
    for name in _SIZES:
        # Of a cross-match, petroR90_r_1 where it is the only one.
        numbered = [i for i, text in plain.items() if text.startswith(name) and _before_number(fields[i].name) == name]
        for i in [*(i for i in plain if plain[i] == name), *(numbered if len(numbered) == 1 else ())]:
            # A size in pixels is of no use, but no reason to refuse the table.
            with suppress(CatalogError):
                return i, scale(_with_any_unit(fields[i]), "arcsec")
    return None, 1.0


def _before_number(name: str) -> str:
    match = _AFTER.fullmatch(plain_name(name))
    return match[1].replace("_", "") if match else ""


def _with_any_unit(field: TableField) -> TableField:
    """Return a column with the unit in brackets behind its name, of whatever kind, where it has none itself."""
    stated = _UNIT_IN_NAME.fullmatch(field.name.strip())
    if field.unit.strip() or stated is None or stated[2].strip() in tuple("ugrizy") or not is_unit(stated[2]):
        return field
    return replace(field, unit=stated[2])
