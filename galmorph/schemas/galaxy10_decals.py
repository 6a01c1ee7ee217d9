"""The ten classes of Galaxy10 DECaLS (256 x 256 px images of the Legacy Surveys)."""

from galmorph.schemas import LabelSchema, Question

SCHEMA = LabelSchema(
    name="galaxy10_decals",
    description="Ten classes of Galaxy10 DECaLS.",
    reference="Leung & Bovy, Galaxy10 DECaLS; votes of Walmsley et al. 2022, MNRAS 509, 3966",
    questions=(
        Question(
            "galaxy10",
            (
                "disturbed",
                "merging",
                "round_smooth",
                "in_between_round_smooth",
                "cigar_shaped_smooth",
                "barred_spiral",
                "unbarred_tight_spiral",
                "unbarred_loose_spiral",
                "edge_on_without_bulge",
                "edge_on_with_bulge",
            ),
        ),
    ),
    codes=tuple(str(number) for number in range(10)),
)
