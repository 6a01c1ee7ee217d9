"""Which columns of a catalog hold the position, the identifier, the size and the cutout."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from galmorph import registry
from galmorph.errors import CatalogError
from galmorph.tables.formats import TableField
from galmorph.tables.positions import Frame, scale

# Names in lower case. A pair of an earlier line is preferred; two pairs of one line are ambiguous. VizieR adds
# _RAJ2000 (computed, in degrees) beside the RAJ2000 of the paper, and RA_ICRS where the paper's own is something else.
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
    ),
)
_GALACTIC = ((("l", "b"), ("glon", "glat")),)
_ECLIPTIC = ((("elon", "elat"),),)
_SUPERGALACTIC = ((("sgl", "sgb"),),)

_IDS = (
    *("objid", "object_id", "obj_id", "id", "targetid", "target_id", "galaxyid", "galaxy_id", "source_id", "sourceid"),
    *("ls_id", "dr8objid", "dr7objid", "iauname", "name", "object", "unnamed: 0"),
)
# Petrosian R90, as SDSS, the NASA-Sloan Atlas and Galaxy Zoo 2 name it (without `_`, in lower case).
_SIZES = ("petror90r", "petror90", "petroth90r", "petroth90")
_CUTOUT = "cutout"


@dataclass(frozen=True)
class Roles:
    """The positions (from 0) of the columns that galmorph reads; None where the catalog has none.

    ``size_scale`` turns the size column into arcsec.
    """

    ra: int | None
    dec: int | None
    id: int | None
    size: int | None
    cutout: int | None
    size_scale: float

    @property
    def columns(self) -> list[int]:
        """The positions of all these columns, each once, in order."""
        return sorted({p for p in (self.ra, self.dec, self.id, self.size, self.cutout) if p is not None})


def find_roles(
    fields: Sequence[TableField],
    frame: Frame,
    *,
    ra_column: str | None,
    dec_column: str | None,
    id_column: str | None,
    size_column: str | None,
    cutout_column: str | None,
) -> Roles:
    """Return which columns mean what: those that the options name, else by UCD, else by the usual names.

    Raises
    ------
    CatalogError
        If an option names no column, or two pairs of position columns are as good as each other.
    """
    if (ra_column is None) != (dec_column is None):
        raise CatalogError("--ra-column and --dec-column go together: give both, or neither")
    pair: tuple[int | None, int | None]
    if ra_column is not None and dec_column is not None:
        pair = named(fields, ra_column, "--ra-column"), named(fields, dec_column, "--dec-column")
    else:
        pair = _find_pair(fields, frame) or (None, None)
    size, size_scale = _find_size(fields, size_column)
    return Roles(
        ra=pair[0],
        dec=pair[1],
        id=_find_id(fields) if id_column is None else named(fields, id_column, "--id-column"),
        size=size,
        cutout=_first(fields, [_CUTOUT]) if cutout_column is None else named(fields, cutout_column, "--cutout-column"),
        size_scale=size_scale,
    )


def named(fields: Sequence[TableField], name: str, option: str) -> int:
    """Return the position of the column `name`; upper and lower case are the same if no column has the very name.

    Raises
    ------
    CatalogError
        If there is no such column, or more than one. The message begins with `option`.
    """
    found = [i for i, field in enumerate(fields) if field.name == name]
    found = found or [i for i, field in enumerate(fields) if field.name.lower() == name.strip().lower()]
    if not found:
        raise CatalogError(f"{option}: {registry.unknown('column', name, [field.name for field in fields])}")
    if len(found) > 1:
        raise CatalogError(f"{option}: {len(found)} columns are named {name!r}; rename all but one")
    return found[0]


def _ucd_words(field: TableField) -> list[str]:
    """Return the words of a UCD, the old ``POS_EQ_RA_MAIN`` as the new ``pos.eq.ra;meta.main``."""
    ucd = field.ucd.strip().lower()
    if "_" in ucd and "." not in ucd:
        ucd = ucd.removesuffix("_main").replace("_", ".") + (";meta.main" if ucd.endswith("_main") else "")
        ucd = "meta." + ucd if ucd.startswith("id") else ucd
    return [word.strip() for word in ucd.split(";")]


def _find_pair(fields: Sequence[TableField], frame: Frame) -> tuple[int, int] | None:
    tiers: Sequence[Sequence[tuple[str, str]]]
    if frame.equatorial:
        ucds, tiers = ("pos.eq.ra", "pos.eq.dec"), _EQUATORIAL
    elif frame.name == "galactic":
        ucds, tiers = ("pos.galactic.lon", "pos.galactic.lat"), _GALACTIC
    elif frame.name == "supergalactic":
        ucds, tiers = ("pos.supergalactic.lon", "pos.supergalactic.lat"), _SUPERGALACTIC
    else:
        ucds, tiers = ("pos.ecliptic.lon", "pos.ecliptic.lat"), _ECLIPTIC
    scalar = [(i, field) for i, field in enumerate(fields) if field.scalar]
    words = {i: _ucd_words(field) for i, field in scalar}
    tied: list[int] = []
    for kinds in ([{"meta.main"}], [set(), {"meta.main"}]):
        lons, lats = ([i for i, w in words.items() if w[0] == ucd and set(w[1:]) in kinds] for ucd in ucds)
        if len(lons) == len(lats) == 1:
            return lons[0], lats[0]
        if lons and lats:
            tied = tied or [*lons, *lats]
    by_name: dict[str, list[int]] = {}
    for i, field in scalar:
        by_name.setdefault(field.name.strip().lower(), []).append(i)
    for tier in tiers:
        pairs = [(i, j) for lon, lat in tier for i in by_name.get(lon, ()) for j in by_name.get(lat, ())]
        if len(pairs) == 1:
            return pairs[0]
        if pairs:
            tied = tied or sorted({p for pair in pairs for p in pair})
            break
    if tied:
        names = ", ".join(fields[i].name for i in tied)
        raise CatalogError(f"{names} could all be the position: say which with --ra-column and --dec-column")
    return None


def _find_id(fields: Sequence[TableField]) -> int | None:
    main = [i for i, field in enumerate(fields) if field.scalar and {"meta.id", "meta.main"} <= set(_ucd_words(field))]
    if len(main) == 1:
        return main[0]
    found = _first(fields, _IDS)
    if found is None and fields and not fields[0].name.strip():
        return 0
    return found


def _first(fields: Sequence[TableField], names: Sequence[str]) -> int | None:
    by_name = {field.name.strip().lower(): i for i, field in reversed(list(enumerate(fields))) if field.scalar}
    return next((by_name[name] for name in names if name in by_name), None)


def _find_size(fields: Sequence[TableField], size_column: str | None) -> tuple[int | None, float]:
    if size_column is not None:
        size = named(fields, size_column, "--size-column")
        if not fields[size].scalar:
            raise CatalogError(f"--size-column: column {size_column!r} holds an array in each cell")
        return size, scale(fields[size], "arcsec")
    for name in _SIZES:
        for i, field in enumerate(fields):
            if field.scalar and field.name.strip().lower().replace("_", "") == name:
                # A size in pixels is not what was asked for, but no reason to refuse the table either.
                with suppress(CatalogError):
                    return i, scale(field, "arcsec")
    return None, 1.0
