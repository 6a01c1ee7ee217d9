"""What was fetched can be classified as it is, and what a galaxy looks like does not depend on the pixels asked for."""

import numpy as np
import pytest
from standin import Galaxy, Sky, StandIn

from galmorph.retrieval.fetch import GALAXY_ZOO_FACTOR, fetch
from galmorph.tables.catalog import open_catalog

GALAXIES = (
    Galaxy(150.0, 2.0, flux=3000.0, radius_arcsec=6.0, axis_ratio=0.9, arms=0.6),
    Galaxy(150.1, 2.0, flux=3000.0, radius_arcsec=6.0, axis_ratio=0.95, arms=0.0),
    Galaxy(150.2, 2.0, flux=3000.0, radius_arcsec=6.0, axis_ratio=0.25, arms=0.2),
)
R90_ARCSEC = 12.0


@pytest.mark.parametrize("by_size", [False, True])
def test_the_same_galaxy_at_three_scales(tmp_path, by_size):
    from galmorph.classification.classify import classify

    table = tmp_path / "t.csv"
    rows = [f"g{i},{g.ra},{g.dec},{R90_ARCSEC}" for i, g in enumerate(GALAXIES)]
    text = "\n".join(["name,ra,dec,petroR90_r", *rows]) + "\n"
    table.write_text(text if by_size else text.replace(",petroR90_r", "").replace(f",{R90_ARCSEC}\n", "\n"))
    found = []
    with StandIn(Sky(galaxies=GALAXIES)) as server:
        for pixscale in (0.1, 0.262, 0.396):
            out = tmp_path / str(pixscale)
            width = {"size_factor": GALAXY_ZOO_FACTOR} if by_size else {"size": round(110 / pixscale)}
            fetch(table, out=out, base_url=f"{server.url}/viewer", rate=1000.0, pixscale=pixscale, **width)
            summary = classify(out / "targets.csv")
            assert (summary.classified, summary.failed) == (3, 0)
            catalog = open_catalog(out / "targets_morph.csv")
            names = [name for name in catalog.column_names if name.startswith("p_")]
            found.append(np.stack(list(catalog.read(names).values())))
    for other in (found[0], found[2]):
        np.testing.assert_allclose(other, found[1], atol=0.1)
    # The three galaxies are not taken for one and the same.
    assert np.ptp(found[1], axis=1).max() > 0.3
