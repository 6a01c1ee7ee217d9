"""The manifest: one run at a time, nothing lost, and clear words where it cannot be used."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from galmorph.errors import CannotContinue, OutputError
from galmorph.retrieval.enrolment import Entry
from galmorph.retrieval.manifest import Manifest, Outcome, read_counts
from galmorph.retrieval.request import Request


def entry(row, name="", **more):
    request = Request(name or f"g{row}", 10.0 + row, 5.0, 16, 0.262)
    key = f"{row:016x}"
    return Entry(
        row, request.target_id, key=key, identity=f"r{row}", path=f"{key[:2]}/{key}.fits", request=request, **more
    )


def keys(manifest, located=True, n=2):
    return [task.key for page in manifest.tasks(n, located=located) for task in page]


def test_tasks_and_results(tmp_path):
    with Manifest(tmp_path) as manifest:
        bad = Entry(3, "bad", problem="ra is empty")
        manifest.enroll([[entry(0), entry(1)], [entry(2), bad, replace(entry(0), row=4)]], None)
        assert [int(key, 16) for key in keys(manifest)] == [0, 1, 2]
        assert manifest.n_pending() == 3
        manifest.record(entry(0).key, Outcome("ok", "u", 2, 100, "ab", {"g": 1.0}))
        manifest.record(entry(1).key, Outcome("no_coverage", error="off"))
        assert [int(key, 16) for key in keys(manifest)] == [2]
        assert [row for rows in manifest.results(2) for row in rows] == [
            (entry(0).path, "ok"),
            ("", "no_coverage"),
            ("", ""),
            ("", "invalid"),
            (entry(0).path, "ok"),
        ]
        assert manifest.tally(None)[0] == {
            "ok": 2, "partial": 0, "no_coverage": 1, "failed": 0, "invalid": 1, "pending": 1
        }  # fmt: skip
        assert manifest.tally(2)[0]["pending"] == 0
    db = sqlite3.connect(tmp_path / "manifest.sqlite")
    rows = db.execute("SELECT row, id, status, attempts, error FROM manifest").fetchall()
    db.close()
    assert rows[:2] == [(0, "g0", "ok", 2, None), (1, "g1", "no_coverage", 0, "off")]


def own(row):
    """An entry whose path is one that galmorph gives."""
    made = entry(row)
    return replace(made, path=f"{made.key[:2]}/g-{made.key}.fits")


def keys_of(folder):
    with Manifest(folder) as manifest:
        return [int(key, 16) for key in keys(manifest)]


def test_another_list_keeps_finished_requests(tmp_path):
    with Manifest(tmp_path) as manifest:
        manifest.enroll([[entry(0), entry(1)]], None)
        manifest.record(entry(1).key, Outcome("ok", "u"))
    with Manifest(tmp_path) as manifest:
        moved = [replace(entry(1), row=0), replace(entry(7), row=1)]
        manifest.enroll([moved], None)
        assert [int(key, 16) for key in keys(manifest)] == [7]
        assert manifest.tally(None)[0]["ok"] == 1
    with Manifest(tmp_path) as manifest:
        manifest.enroll([[entry(0)]], None)
        assert [int(key, 16) for key in keys(manifest)] == [0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows, [0, 1, 2, 3]),
        (lambda rows: rows[:2], [0, 1]),
        (lambda rows: [], []),
        (lambda rows: [*rows, replace(entry(9), row=5)], [0, 1, 2, 3, 9]),
        (lambda rows: [*rows[:2], replace(entry(7), row=2), *rows[3:]], [0, 1, 3, 7]),
        # Row 4 has the request of row 1, which goes.
        (lambda rows: [rows[0], replace(entry(8), row=1), *rows[2:]], [0, 1, 2, 3, 8]),
        (lambda rows: [rows[0], Entry(1, "g1", problem="ra is empty"), *rows[2:]], [0, 1, 2, 3]),
        (lambda rows: [replace(row, target_id="renamed") for row in rows], [0, 1, 2, 3]),
        (lambda rows: [replace(row, images="brick") for row in rows], [0, 1, 2, 3]),
    ],
)
def test_a_list_that_changes_is_as_good_as_a_new_one(tmp_path, change, expected):
    rows = [*(entry(row) for row in range(4)), replace(entry(1), row=4)]
    new = change(rows)
    for folder, lists in (("changed", (rows, new)), ("new", (new,))):
        for entries in lists:
            with Manifest(tmp_path / folder) as manifest:
                manifest.enroll([entries[:2], entries[2:]], None)
    with Manifest(tmp_path / "changed") as changed, Manifest(tmp_path / "new") as fresh:
        assert sorted(int(key, 16) for key in keys(changed)) == expected
        for query in ("SELECT * FROM targets", "SELECT key, first_row, place FROM requests WHERE first_row >= 0"):
            assert changed._db.execute(query).fetchall() == fresh._db.execute(query).fetchall()


def test_a_list_that_is_the_same_is_not_written_again(tmp_path):
    rows = [*map(own, range(4)), replace(own(1), row=4), Entry(5, "g5", problem="ra is empty")]
    for limit in (None, None, 3, 3):
        with Manifest(tmp_path) as manifest:
            before = manifest._db.total_changes
            manifest.enroll([rows[:3], rows[3:]], limit)
            written = manifest._db.total_changes - before
        assert keys_of(tmp_path) == list(range(4 if limit is None else 3))
    assert written == 0


@pytest.mark.parametrize(
    "damage",
    [
        *("path = '../x'", "ra = 5", "size = 9", "radius = 3", "note = 'x'", "first_row = 0", "first_row = NULL"),
        *("target_id = 'x'", "status = 'odd'", "pixscale = 'x'"),
    ],
)
def test_what_was_changed_in_the_manifest_is_written_again(tmp_path, damage):
    rows = [own(row) for row in range(4)]
    for folder in ("whole", "damaged"):
        with Manifest(tmp_path / folder) as manifest:
            manifest.enroll([rows], None)
    db = sqlite3.connect(tmp_path / "damaged" / "manifest.sqlite")
    with db:
        db.execute(f"UPDATE requests SET {damage} WHERE target_id = 'g2'")
        db.execute("INSERT INTO requests (key, first_row, path) VALUES ('ffff', 1, 'ff/x-ffff.fits')")
    db.close()
    with Manifest(tmp_path / "whole") as whole, Manifest(tmp_path / "damaged") as damaged:
        damaged.enroll([rows], None)
        query = "SELECT * FROM requests WHERE first_row IS NOT NULL ORDER BY key"
        assert damaged._db.execute(query).fetchall() == whole._db.execute(query).fetchall()


@pytest.mark.parametrize(("first", "second"), [(None, 2), (2, None), (2, 3), (3, 2), (0, 0)])
def test_a_limit_that_changes(tmp_path, first, second):
    rows = [*(entry(row) for row in range(4)), replace(entry(1), row=4)]
    for limit in (first, second):
        with Manifest(tmp_path) as manifest:
            manifest.enroll([rows[:3], rows[3:]], limit)
            assert [int(key, 16) for key in keys(manifest)] == list(range(4 if limit is None else limit))


def test_a_stopped_enrolment_changes_nothing(tmp_path):
    def broken():
        yield [entry(5)]
        raise ZeroDivisionError

    with Manifest(tmp_path) as manifest:
        manifest.enroll([[entry(0)]], None)
    with pytest.raises(ZeroDivisionError), Manifest(tmp_path) as manifest:
        manifest.enroll(broken(), None)
    with Manifest(tmp_path) as manifest:
        assert manifest._db.execute("SELECT row, id FROM targets").fetchall() == [(0, "g0")]


def test_requests_of_one_image_follow_one_another(tmp_path):
    with Manifest(tmp_path) as manifest:
        images = ["b", "a", None, "b", "a"]
        manifest.enroll([[entry(row, images=images) for row, images in enumerate(images)]], None)
        assert [int(key, 16) for key in keys(manifest)] == [1, 4, 0, 3]
        assert [int(key, 16) for key in keys(manifest, located=False)] == [2]
        manifest.locate({entry(2).key: "aa"})
        assert [int(key, 16) for key in keys(manifest)] == [1, 4, 2, 0, 3]
        # The images are not asked for again by the next run.
        manifest.enroll([[entry(row, images=images) for row, images in enumerate(images)]], None)
        assert keys(manifest, located=False) == []


def test_limit(tmp_path):
    with Manifest(tmp_path) as manifest:
        manifest.enroll([[entry(0), entry(1), entry(2)]], 2)
        assert [int(key, 16) for key in keys(manifest)] == [0, 1]
        assert manifest.tally(2)[0]["pending"] == 2


def test_refused_positions_are_never_tasks(tmp_path):
    with Manifest(tmp_path) as manifest:
        manifest.enroll([[entry(0, refused="outside the footprint ls-dr9"), entry(1)]], None)
        assert [int(key, 16) for key in keys(manifest)] == [1]
        assert manifest.tally(None)[0]["no_coverage"] == 1
    # The footprint was wrong.
    with Manifest(tmp_path) as manifest:
        manifest.enroll([[entry(0), entry(1)]], None)
        assert [int(key, 16) for key in keys(manifest)] == [0, 1]


def test_one_run_at_a_time(tmp_path):
    with Manifest(tmp_path) as manifest:
        manifest.enroll([[entry(0)]], None)
        with pytest.raises(OutputError, match="Another run is fetching"):
            Manifest(tmp_path)
        # The state can be asked for all the same.
        assert read_counts(tmp_path)[0]["pending"] == 1
    with Manifest(tmp_path):
        pass


def test_totals_add_up(tmp_path):
    for _ in range(2):
        with Manifest(tmp_path) as manifest:
            manifest.add_totals(3, 1000, 0.5)
    assert read_counts(tmp_path)[1] == {"requests": 6, "bytes": 2000, "seconds": 1.0}


@pytest.mark.parametrize("content", [b"not a database" * 100, b""])
def test_a_foreign_file(tmp_path, content):
    (tmp_path / "manifest.sqlite").write_bytes(content)
    if content:
        with pytest.raises(OutputError, match=r"manifest\.sqlite.*choose another --out") as caught:
            Manifest(tmp_path)
        assert caught.value.exit_code == 2
        (tmp_path / "manifest.sqlite").unlink()
    with Manifest(tmp_path):
        pass


@pytest.mark.parametrize("damage", [b"CREATE \xff\xfe", b"\xff\xfeEATE T"])
def test_damaged_text_is_a_message(tmp_path, damage):
    with Manifest(tmp_path):
        pass
    path = tmp_path / "manifest.sqlite"
    content = path.read_bytes()
    assert b"CREATE TABLE" in content
    path.write_bytes(content.replace(b"CREATE TA"[: len(damage)], damage))
    for opened in (lambda: Manifest(tmp_path), lambda: read_counts(tmp_path)):
        with pytest.raises(OutputError, match=r"manifest\.sqlite.*choose another --out"):
            opened()


def test_a_newer_manifest(tmp_path):
    with Manifest(tmp_path) as manifest:
        manifest._db.execute("UPDATE meta SET value = '99' WHERE name = 'format'")
    with pytest.raises(OutputError, match="newer galmorph"):
        Manifest(tmp_path)
    with pytest.raises(OutputError, match="newer galmorph"):
        read_counts(tmp_path)


def test_nothing_fetched_yet(tmp_path):
    with pytest.raises(OutputError, match="nothing was fetched into it yet"):
        read_counts(tmp_path)


@pytest.mark.parametrize("folder", ["/proc/nothing", "/dev/null/x"])
def test_a_folder_that_cannot_be_written(folder):
    with pytest.raises(OutputError, match=r"cannot be written.*Choose another --out"):
        Manifest(Path(folder))


def test_a_full_disk(tmp_path):
    with Manifest(tmp_path) as manifest:
        pages = manifest._db.execute("PRAGMA page_count").fetchone()[0]
        manifest._db.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(CannotContinue, match=r"No space left on device.*run the same command again") as caught:
            manifest.enroll([[entry(row) for row in range(1000)]], None)
    assert caught.value.exit_code == 3
    with Manifest(tmp_path) as manifest:
        manifest.enroll([[entry(0)]], None)
        assert manifest.tally(None)[0]["pending"] == 1
