"""Made-up results of a classification, as `galmorph classify` writes them, for tests of what reads them."""

from __future__ import annotations

import numpy as np

from galmorph import registry
from galmorph.classification.output_columns import output_columns
from galmorph.images.flags import Flag
from galmorph.models.card import ModelCard
from galmorph.tables.catalog import Column, write_catalog

# Identifiers that a page or a spreadsheet could take for something else.
NASTY = (
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "1237651653835781118",
    "007",
)


def results(path, n=60, schema="galaxyzoo2", prefix="", cutouts=(), seed=0, ood=False, unclassified=3, p=None):
    """Write a classified catalog, of random or given `p`: row `unclassified` has none; every tenth is blended."""
    found = registry.load("schemas", schema)
    rng = np.random.default_rng(seed)
    given, p = p, np.zeros((n, len(found.labels)), np.float32)
    for part, parents in zip(found.slices, found.parents, strict=True):
        share = rng.dirichlet(np.full(part.stop - part.start, 0.4), n)
        p[:, part] = share * (p[:, list(parents)].sum(axis=1, keepdims=True) if parents else 1)
    p = p if given is None else given
    flag = np.where(np.arange(n) % 10 == 0, Flag.BLENDED.value, 0)
    if unclassified < n:
        p[unclassified], flag[unclassified] = np.nan, Flag.UNREADABLE.value
    first = p[:, found.slices[0]]
    ids = [*NASTY, *(f"galaxy {i}" for i in range(n))][:n]
    columns = [
        Column("id", "str", width=48, ucd="meta.id;meta.main"),
        Column("ra", "float64", unit="deg", ucd="pos.eq.ra;meta.main"),
        Column("dec", "float64", unit="deg", ucd="pos.eq.dec;meta.main"),
    ]
    values = [np.array(ids, object), rng.uniform(0, 360, n), rng.uniform(-20, 80, n)]
    if cutouts:
        columns.append(Column("cutout", "str", width=16))
        values.append(np.array([cutouts[i % len(cutouts)] for i in range(n)], object))
    columns += output_columns(ModelCard("own-model", "mobilenet_v2", found.name, ()), prefix)
    entropy = -(first * np.log(np.clip(first, 1e-9, 1))).sum(axis=1)
    values += [*p.T, found.short_names(p), entropy.astype(np.float32), flag == 0, flag.astype(np.int16)]
    if ood:
        columns.append(Column(f"{prefix}morph_ood", "float32"))
        values.append(rng.gamma(2, 1, n).astype(np.float32))
    cards = [("GMMODEL", "own-model", "model of morphology"), ("GMSCHEMA", found.name, "label schema")]
    cards += [("GMSHA256", "0" * 64, "SHA-256 of the weights"), ("GMDATE", "2026-11-22T00:00:00", "when (UTC)")]
    block = dict(zip([column.name for column in columns], values, strict=True))
    write_catalog(path, columns, [block], n, cards=cards)
    return p
