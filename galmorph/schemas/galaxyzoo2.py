"""The Galaxy Zoo 2 decision tree: 11 questions, 37 vote fractions, in the order of the Galaxy Zoo Challenge's columns.

Question 6 ("anything odd?") is a second root, as in the challenge's solutions and the debiased votes made from
Galaxy Zoo 2: its fractions add up to 1 whatever was answered before.
"""

from galmorph.schemas import LabelSchema, Question

_FEATURED_FACE_ON = ("disk_edge_on_no",)

SCHEMA = LabelSchema(
    name="galaxyzoo2",
    description="Vote fractions of the Galaxy Zoo 2 decision tree, each times the fraction that reached its question.",
    reference="Willett et al. 2013, MNRAS 435, 2835, table 2; Kaggle 'Galaxy Zoo - The Galaxy Challenge'",
    questions=(
        Question(
            "smooth_or_featured", ("smooth", "featured_or_disk", "artifact"), words=("smooth", "featured", "artifact")
        ),
        Question("disk_edge_on", ("yes", "no"), ("smooth_or_featured_featured_or_disk",), ("edge_on", "")),
        Question("bar", ("yes", "no"), _FEATURED_FACE_ON, ("barred", "")),
        Question("has_spiral_arms", ("yes", "no"), _FEATURED_FACE_ON, ("spiral", "disk")),
        Question(
            "bulge_size",
            ("no", "just_noticeable", "obvious", "dominant"),
            ("has_spiral_arms_yes", "has_spiral_arms_no"),
        ),
        Question("something_odd", ("yes", "no")),
        Question(
            "how_rounded",
            ("round", "in_between", "cigar"),
            ("smooth_or_featured_smooth",),
            ("round", "in_between", "cigar"),
        ),
        Question(
            "odd_feature",
            ("ring", "lens_or_arc", "disturbed", "irregular", "other", "merger", "dust_lane"),
            ("something_odd_yes",),
        ),
        Question(
            "bulge_shape",
            ("round", "boxy", "no_bulge"),
            ("disk_edge_on_yes",),
            ("round_bulge", "boxy_bulge", "no_bulge"),
        ),
        Question(
            "spiral_winding", ("tight", "medium", "loose"), ("has_spiral_arms_yes",), ("tight", "medium", "loose")
        ),
        Question("spiral_arm_count", ("1", "2", "3", "4", "more_than_4", "cant_tell"), ("has_spiral_arms_yes",)),
    ),
    codes=tuple(
        f"Class{question}.{answer}"
        for question, n_answers in enumerate((3, 2, 2, 2, 4, 2, 3, 7, 3, 3, 6), start=1)
        for answer in range(1, n_answers + 1)
    ),
    # Columns of the Galaxy Zoo DECaLS and DESI catalogues (Walmsley et al. 2022, MNRAS 509, 3966; 2023, 526, 4768)
    # whose questions are the same; those on bulge sizes and mergers have other answers.
    conditional={
        "smooth-or-featured_smooth_fraction": "smooth_or_featured_smooth",
        "smooth-or-featured_featured-or-disk_fraction": "smooth_or_featured_featured_or_disk",
        "smooth-or-featured_artifact_fraction": "smooth_or_featured_artifact",
        "smooth-or-featured_problem_fraction": "smooth_or_featured_artifact",
        "disk-edge-on_yes_fraction": "disk_edge_on_yes",
        "disk-edge-on_no_fraction": "disk_edge_on_no",
        "bar_no_fraction": "bar_no",
        "has-spiral-arms_yes_fraction": "has_spiral_arms_yes",
        "has-spiral-arms_no_fraction": "has_spiral_arms_no",
        "how-rounded_round_fraction": "how_rounded_round",
        "how-rounded_completely_fraction": "how_rounded_round",
        "how-rounded_in-between_fraction": "how_rounded_in_between",
        "how-rounded_cigar-shaped_fraction": "how_rounded_cigar",
        "edge-on-bulge_rounded_fraction": "bulge_shape_round",
        "edge-on-bulge_boxy_fraction": "bulge_shape_boxy",
        "edge-on-bulge_none_fraction": "bulge_shape_no_bulge",
        "spiral-winding_tight_fraction": "spiral_winding_tight",
        "spiral-winding_medium_fraction": "spiral_winding_medium",
        "spiral-winding_loose_fraction": "spiral_winding_loose",
        "spiral-arm-count_1_fraction": "spiral_arm_count_1",
        "spiral-arm-count_2_fraction": "spiral_arm_count_2",
        "spiral-arm-count_3_fraction": "spiral_arm_count_3",
        "spiral-arm-count_4_fraction": "spiral_arm_count_4",
        "spiral-arm-count_more-than-4_fraction": "spiral_arm_count_more_than_4",
        "spiral-arm-count_cant-tell_fraction": "spiral_arm_count_cant_tell",
    },
    artifact="smooth_or_featured_artifact",
)
