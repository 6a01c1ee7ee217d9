"""The ten classes of Galaxy10 SDSS (69 x 69 px images of SDSS, classes from Galaxy Zoo 2 votes)."""

from galmorph.schemas import LabelSchema, Question

SCHEMA = LabelSchema(
    name="galaxy10_sdss",
    description="Ten classes of Galaxy10 SDSS.",
    reference="Leung & Bovy 2019, MNRAS 483, 3255 (astroNN, Galaxy10)",
    questions=(
        Question(
            "galaxy10",
            (
                "disk_face_on_no_spiral",
                "smooth_completely_round",
                "smooth_in_between_round",
                "smooth_cigar_shaped",
                "disk_edge_on_rounded_bulge",
                "disk_edge_on_boxy_bulge",
                "disk_edge_on_no_bulge",
                "disk_face_on_tight_spiral",
                "disk_face_on_medium_spiral",
                "disk_face_on_loose_spiral",
            ),
        ),
    ),
    codes=tuple(str(number) for number in range(10)),
)
