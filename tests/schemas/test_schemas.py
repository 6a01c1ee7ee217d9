"""Label schemas: the tree as data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galmorph import registry
from galmorph.errors import SampleError
from galmorph.schemas import LabelSchema, Question

TREE = LabelSchema(
    name="tree",
    description="",
    reference="",
    questions=(
        Question("shape", ("smooth", "disk"), words=("smooth", "")),
        Question("round", ("yes", "no"), ("shape_smooth",), ("round", "long")),
        Question("arms", ("yes", "no"), ("shape_disk",), ("spiral", "disk")),
        Question("odd", ("yes", "no")),
    ),
    codes=tuple("abcdefgh"),
    conditional={"disk_share": "shape_disk", "no_arms_share": "arms_no"},
)


def test_tree_of_galaxy_zoo_2():
    schema = registry.load("schemas", "galaxyzoo2")
    codes = {c: i for i, c in enumerate(schema.codes)}

    def parents(question):
        return {schema.codes[i] for i in schema.parents[question - 1]}

    assert len(schema.labels) == 37
    assert parents(1) == parents(6) == set()
    assert parents(2) == {"Class1.2"}
    assert parents(3) == parents(4) == {"Class2.2"}
    assert parents(5) == {"Class4.1", "Class4.2"}
    assert parents(7) == {"Class1.1"}
    assert parents(8) == {"Class6.1"}
    assert parents(9) == {"Class2.1"}
    assert parents(10) == parents(11) == {"Class4.1"}
    assert schema.labels[codes["Class7.3"]] == "how_rounded_cigar"
    assert schema.labels[codes["Class11.6"]] == "spiral_arm_count_cant_tell"


def test_short_name_follows_the_most_probable_answers():
    #                 smooth disk | round yes no | arms yes no | odd yes no
    rows = np.array([[0.9, 0.1, 0.3, 0.6, 0.1, 0.0, 0.9, 0.1], [0.3, 0.7, 0.2, 0.1, 0.5, 0.2, 0.0, 1.0]])
    assert list(TREE.short_names(rows)) == ["smooth_long", "spiral"]
    rows[0, 5] = np.nan
    assert list(TREE.short_names(rows)) == ["", "spiral"]


def test_a_name_stops_at_the_last_answer_with_half_of_all():
    #                 smooth disk | round yes no | arms yes no | odd yes no
    rows = np.array(
        [
            [0.6, 0.4, 0.2, 0.4, 0.3, 0.1, 0.9, 0.1],  # smooth is sure, its roundness is not
            [0.3, 0.7, 0.2, 0.1, 0.49, 0.21, 0.0, 1.0],  # a disk, which has no word, and arms that are not sure
            [0.5, 0.5, 0.0, 0.5, 0.25, 0.25, 0.0, 1.0],  # half is enough
            [0.49, 0.49, 0.2, 0.29, 0.25, 0.24, 0.0, 1.0],
        ]
    )
    assert list(TREE.short_names(rows)) == ["smooth", "disk", "smooth_long", "uncertain"]
    classes = LabelSchema("c", "", "", (Question("class", ("round", "cigar", "edge_on")),), ("0", "1", "2"))
    p = np.array([[0.4, 0.35, 0.25], [0.2, 0.5, 0.3], [np.nan] * 3])
    assert list(classes.short_names(p)) == ["uncertain", "cigar", ""]
    assert classes.name_width == len("uncertain")


def test_shares_are_fractions_of_those_who_were_asked():
    rows = np.array([[0.25, 0.75, 0.2, 0.05, 0.5, 0.25, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.5, 0.5]])
    shares = TREE.answers(rows)
    assert shares[0] == pytest.approx([0.25, 0.75, 0.8, 0.2, 2 / 3, 1 / 3, 1.0, 0.0])
    assert np.isnan(shares[1, 2:4]).all()


def test_conditional_columns_become_cumulative_and_the_rest_is_unknown():
    rows = TREE.from_columns({"disk_share": np.array([0.8]), "no_arms_share": np.array([0.25])})
    np.testing.assert_allclose(rows[0], [0.2, 0.8, np.nan, np.nan, 0.6, 0.2, np.nan, np.nan], rtol=1e-6)


@pytest.mark.parametrize("name", ["shape_smooth", "p_shape_smooth", "a"])
def test_columns_are_known_by_label_column_and_code(name):
    rows = TREE.from_columns({name: np.array([0.3, 0.5])})
    assert rows[:, 0] == pytest.approx([0.3, 0.5])
    assert np.isnan(rows[:, 1:]).all()


def test_foreign_columns_are_refused():
    with pytest.raises(SampleError, match="No column belongs to the schema 'tree'"):
        TREE.from_columns({"redshift": np.array([0.1])})


def test_tree_errors_are_found():
    rows = np.array([[0.6, 0.4, 0.2, 0.4, 0.3, 0.1, 0.9, 0.1]])
    assert TREE.largest_tree_error(rows) == pytest.approx(0)
    rows[0, 4] = 0.5
    assert TREE.largest_tree_error(rows) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("questions", "codes", "message"),
    [
        ((Question("a", ("x",), ("later_y",)), Question("later", ("y",))), "12", "later"),
        ((Question("a", ("X Y",)),), "1", "unfit"),
        ((Question("a", ("x", "x")),), "12", "repeated"),
        ((Question("a", ("x", "y")),), "1", "codes"),
    ],
)
def test_wrong_schemas_are_refused(questions, codes, message):
    with pytest.raises(ValueError, match=message):
        LabelSchema("s", "", "", questions, tuple(codes))


@given(st.lists(st.floats(0, 1), min_size=8, max_size=8))
def test_any_fractions_get_a_name_no_longer_than_promised(values):
    (name,) = TREE.short_names(np.array([values]))
    assert 0 < len(name) <= TREE.name_width
