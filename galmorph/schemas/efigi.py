"""EFIGI: seven classes along the Hubble sequence, and attributes of a galaxy's parts on a scale of five steps.

The strength of an attribute, 0 to 1 in the catalog, is read as the share of "strong" against "weak". The sense in which
the arms wind is left out: the mirror image of a galaxy is one of another sense. Values of -1 are undefined there.
"""

from galmorph.schemas import LabelSchema, Question

# T types -6..-4, -3..-1, 0..3, 4..7, 8..9, 10, 11.
CLASSES = (
    "elliptical",
    "lenticular",
    "early_spiral",
    "late_spiral",
    "very_late_spiral",
    "irregular",
    "dwarf_elliptical",
)
# By EFIGI's names.
ATTRIBUTES = (
    "Bulge_to_Total",
    "Arm_Strength",
    "Arm_Curvature",
    "Bar_Length",
    "Inner_Ring",
    "Outer_Ring",
    "Pseudo_Ring",
    "Perturbation",
    "Visible_Dust",
    "Dust_Dispersion",
    "Flocculence",
    "Hot_Spots",
    "Inclination",
    "Contamination",
    "Multiplicity",
)

SCHEMA = LabelSchema(
    name="efigi",
    description="Hubble types in seven classes and fifteen attributes of EFIGI.",
    reference="Baillard et al. 2011, A&A 532, A74",
    questions=(
        Question("type", CLASSES, words=CLASSES),
        *(Question(attribute.lower(), ("strong", "weak")) for attribute in ATTRIBUTES),
    ),
    codes=(
        *(str(number) for number in range(len(CLASSES))),
        *(f"{attribute}.{answer}" for attribute in ATTRIBUTES for answer in ("strong", "weak")),
    ),
    conditional={attribute: f"{attribute.lower()}_strong" for attribute in ATTRIBUTES},
    class_column="label",
)
