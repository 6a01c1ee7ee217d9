"""Five classes of galaxies on which the volunteers of Galaxy Zoo 2 agreed: thresholds on the challenge's votes."""

from galmorph.schemas import LabelSchema, Question

SCHEMA = LabelSchema(
    name="galaxyzoo2_clean",
    description="Five classes of clean samples of Galaxy Zoo 2.",
    reference="Zhu, Dai & Bian 2019, Ap&SS 364, 55; thresholds as in Willett et al. 2013, MNRAS 435, 2835, table 3",
    questions=(
        Question(
            "galaxyzoo2_clean",
            ("completely_round_smooth", "in_between_smooth", "cigar_shaped_smooth", "edge_on", "spiral"),
        ),
    ),
    codes=tuple(str(number) for number in range(5)),
    class_column="label",
    meaning={
        "galaxyzoo2": (
            {"how_rounded_round": 0.5},
            {"how_rounded_in_between": 0.5},
            {"how_rounded_cigar": 0.5},
            {"disk_edge_on_yes": 0.602},
            {"disk_edge_on_no": 0.715, "has_spiral_arms_yes": 0.619},
        )
    },
)
