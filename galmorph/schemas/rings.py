"""Rings: whether a galaxy has one, as marked in pictures of Galaxy Zoo DECaLS."""

from galmorph.schemas import LabelSchema, Question

SCHEMA = LabelSchema(
    name="rings",
    description="Galaxies with and without a ring.",
    reference="Walmsley et al. 2022, MNRAS 509, 3966 (Galaxy Zoo DECaLS) and MNRAS 513, 1581 (rings)",
    questions=(Question("ring", ("no_ring", "ring")),),
    codes=("0", "1"),
    class_column="label",
)
