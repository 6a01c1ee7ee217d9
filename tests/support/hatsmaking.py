"""Small HATS catalogs for tests, their columns described in Arrow metadata as lsdb does not write it."""

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq

DESCRIBED = {
    "objid": {"ucd": "meta.id;meta.main", "description": "of SDSS"},
    "ra": {"unit": "deg", "ucd": "pos.eq.ra;meta.main"},
    "dec": {"unit": "deg", "ucd": "pos.eq.dec;meta.main"},
    "petroR90_r": {"unit": "arcsec", "ucd": "phys.angSize"},
}
PROPERTIES = {"obs_collection": "galaxies", "dataproduct_type": "object", "hats_col_ra": "ra", "hats_col_dec": "dec"}
PROPERTIES |= {"hats_col_healpix": "_healpix_29", "hats_col_healpix_order": 29, "obs_title": "Galaxies"}


def targets(n=30, **columns):
    """A table of targets around (45, 10), whose cutouts are cutouts/g0.fits to g9.fits, in the order of HATS."""
    from hats.pixel_math.spatial_index import compute_spatial_index

    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(5, 85, n), rng.uniform(-5, 25, n)
    index = compute_spatial_index(ra, dec)
    order = np.argsort(index)
    values = {"_healpix_29": index[order], "objid": np.arange(n) + 1237651653835781245, "ra": ra[order]}
    values |= {"dec": dec[order], "cutout": [f"cutouts/g{i % 10}.fits" for i in range(n)]}
    values |= {"petroR90_r": np.full(n, 3.0, np.float32), "tags": [["a", "b"][: i % 3] for i in range(n)], **columns}
    table = pa.table(values)
    fields = [field.with_metadata(DESCRIBED.get(field.name)) for field in table.schema]
    return table.cast(pa.schema(fields, {"survey": "made up"}))


def write_hats(folder, table, *, order=1, suffix=".parquet", **properties):
    """Write a HATS catalog of a table with one partition for each pixel of an order.

    The suffix / makes folders of two files, the second perhaps without rows.
    """
    from hats.io.parquet_metadata import write_parquet_metadata

    pixels = table["_healpix_29"].to_numpy() >> 2 * (29 - order)
    place = folder / "dataset" / f"Norder={order}" / "Dir=0"
    place.mkdir(parents=True)
    for pixel in np.unique(pixels):
        part = table.filter(pa.array(pixels == pixel))
        if suffix != "/":
            pq.write_table(part, place / f"Npix={pixel}{suffix}")
            continue
        (place / f"Npix={pixel}").mkdir()
        pq.write_table(part.slice(0, 2), place / f"Npix={pixel}" / "a.parquet")
        pq.write_table(part.slice(2), place / f"Npix={pixel}" / "b.parquet")
    lines = [f"{order},{pixel}\n" for pixel in np.unique(pixels)]
    (folder / "partition_info.csv").write_text("Norder,Npix\n" + "".join(lines))
    values = PROPERTIES | {"hats_nrows": table.num_rows, "hats_npix_suffix": suffix, **properties}
    (folder / "hats.properties").write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    write_parquet_metadata(folder, create_thumbnail=suffix != "/", create_per_partition_stats=True)
    (folder / "skymap.fits").write_bytes(b"a map")
    return folder


def write_collection(folder, table):
    """Write a collection: the catalog, a margin (every row once more) and an index that is only named like one."""
    write_hats(folder / "galaxies", table)
    margin = {"dataproduct_type": "margin", "hats_primary_table_url": "galaxies", "hats_margin_threshold": 10.0}
    write_hats(folder / "margin", table, obs_collection="margin", **margin)
    (folder / "by_id").mkdir()
    (folder / "by_id" / "hats.properties").write_text(
        "obs_collection=by_id\ndataproduct_type=index\nhats_primary_table_url=galaxies\nhats_index_column=objid\n"
    )
    (folder / "collection.properties").write_text(
        "obs_collection=all\nhats_primary_table_url=galaxies\nall_margins=margin\ndefault_margin=margin\n"
        "all_indexes=objid by_id\ndefault_index=objid\n"
    )
    return folder
