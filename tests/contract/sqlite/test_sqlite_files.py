"""What only the embedded store has: file, library, copies of the file, forks, planted defects, a killed writer."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import apsw
import pytest

from fhir_server.errors import Busy, PositionLost
from fhir_server.storage.protocol import HistoryQuery
from fhir_server.storage.sqlite import SqliteStore, UnusableStore, open_store
from fhir_server.storage.sqlite.connection import SCHEMA, library_version, require_library
from tests.support.given import CODE, DATE, FAMILY, SUBJECT, apply, delete, find, given, has_key, put

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hestia.db"


@pytest.fixture
def store(path: Path):
    opened = open_store(path)
    yield opened
    opened.close()


def test_an_old_library_is_refused() -> None:
    require_library(library_version())
    require_library((3, 51, 3))
    for old in ((3, 40, 1), (3, 51, 2)):
        with pytest.raises(UnusableStore, match=r"3\.51\.3"):
            require_library(old)


def test_the_file_is_wal_full_and_not_mapped(store: SqliteStore, path: Path) -> None:
    pragma = store._connection.pragma
    assert [pragma(name) for name in ("journal_mode", "synchronous", "mmap_size")] == ["wal", 2, 0]


def test_an_absent_file_is_made_only_when_asked(path: Path) -> None:
    with pytest.raises(UnusableStore, match="no store"):
        open_store(path, create=False)
    open_store(path).close()
    open_store(path, create=False).close()


def test_a_newer_schema_and_other_databases_are_refused(path: Path, tmp_path: Path) -> None:
    open_store(path).close()
    other = apsw.Connection(str(path))
    other.pragma("user_version", SCHEMA + 1)
    other.close()
    with pytest.raises(UnusableStore, match="schema"):
        open_store(path)
    foreign = tmp_path / "foreign.db"
    other = apsw.Connection(str(foreign))
    other.execute("CREATE TABLE something (x)")
    other.close()
    with pytest.raises(UnusableStore, match="another application"):
        open_store(foreign)
    text = tmp_path / "text.db"
    text.write_text("This is not a database, although it is long enough to be mistaken for the header of one." * 20)
    with pytest.raises(UnusableStore, match="not a SQLite database"):
        open_store(text)


def test_a_param_belongs_to_one_type(store: SqliteStore) -> None:
    given(store, [put("Patient/1", [(FAMILY, "x")])])
    with pytest.raises(ValueError, match="belongs to Patient"):
        given(store, [put("Observation/1", [(FAMILY, "x")])])
    assert find(store, None) == ["Patient/1"]


def test_a_failed_append_cannot_be_committed(store: SqliteStore) -> None:
    def work(transaction: object) -> None:
        with pytest.raises(ValueError, match="belongs"):
            apply(transaction, [put("Patient/1", [(FAMILY, "x")]), put("Observation/1", [(FAMILY, "x")])])  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="belongs"):
        store.transact(work)
    assert find(store, None) == []


def test_a_writer_that_waits_too_long_is_busy(path: Path, store: SqliteStore) -> None:
    impatient = open_store(path, busy_timeout_s=0.05)

    def hold(transaction: object) -> None:
        with pytest.raises(Busy):
            given(impatient, [put("Patient/1")])

    store.transact(hold)
    given(impatient, [put("Patient/1")])
    impatient.close()


def test_a_full_file_system_is_busy_and_tears_nothing(store: SqliteStore) -> None:
    given(store, [put("Patient/1")])
    store._connection.pragma("max_page_count", store._connection.pragma("page_count") + 2)
    with pytest.raises(Busy, match="full"):
        given(store, [put(f"Patient/{n}", [(FAMILY, f"{n}" * 500)]) for n in range(2, 60)])
    assert find(store, "Patient") == ["Patient/1"]
    store._connection.pragma("max_page_count", 1_000_000)
    given(store, [put("Patient/2", [(FAMILY, "x")])])
    assert list(store.check()) == []


# --- positions of copies ----------------------------------------------------------------------------------------------


def test_the_feed_keeps_a_configured_length(path: Path) -> None:
    short = open_store(path, feed_length=50)
    start = short.feed_position()
    for round in range(3):
        given(short, [put(f"Patient/{n}") for n in range(400)])
        if round == 0:
            kept = short.feed_position()
    with pytest.raises(PositionLost):
        short.feed(start)
    with pytest.raises(PositionLost):
        short.feed(kept)
    position = short.feed_position()
    given(short, [put("Patient/0")])
    assert [one.version for one in short.feed(position)] == [4]
    assert list(short.check()) == []
    short.close()


def test_positions_do_not_hold_in_a_copied_or_restored_file(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    given(store, [put("Patient/1")])
    position = store.feed_position()
    store.backup(str(tmp_path / "backup.db"))
    restored = open_store(tmp_path / "backup.db")
    with pytest.raises(PositionLost):
        restored.feed(position)
    restored.close()
    store.close()
    shutil.copy(path, tmp_path / "copy.db")
    copied = open_store(tmp_path / "copy.db")
    with pytest.raises(PositionLost):
        copied.feed(position)
    given(copied, [put("Patient/2")])
    copied.close()
    again = open_store(path)
    assert again.feed(position) == []
    again.close()


def test_a_backup_of_a_live_store_is_consistent(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    writer = open_store(path)
    given(writer, [put(f"Patient/{n}", [(FAMILY, f"name {n}")]) for n in range(300)])
    target = tmp_path / "backup.db"
    store.backup(str(target))
    given(writer, [put("Patient/later")])
    writer.close()
    with pytest.raises(FileExistsError):
        store.backup(str(target))
    restored = open_store(target, create=False)
    assert restored.counts() == {"Patient": 300}
    assert restored.scan_versions(limit=1000) == [one for one in store.scan_versions(limit=1000) if one.id != "later"]
    assert find(restored, "Patient", has_key(FAMILY, "name 7")) == ["Patient/7"]
    assert list(restored.check()) == []
    restored.close()


def test_a_backup_ends_although_others_keep_writing(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    given(store, [put(f"Patient/{n}", [(FAMILY, f"name {n}" * 50)]) for n in range(2000)])
    open_store(path).close()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), "w"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    for number in range(3):
        target = tmp_path / f"backup{number}.db"
        store.backup(str(target))
        copied = open_store(target)
        assert list(copied.check()) == []
        assert copied.counts()["Patient"] % 5 == 0
        copied.close()
    writer.kill()
    writer.wait()
    writer.stdout.close()


# --- check ------------------------------------------------------------------------------------------------------------

DEFECTS = [
    ("DELETE FROM history WHERE version = 2", "gap"),
    ("DELETE FROM history", "missing"),
    ("UPDATE resource SET version = 9 WHERE address = 'Patient/1'", "gap"),
    ("UPDATE history SET until = until - 1 WHERE version = 1", "does not end"),
    ("UPDATE resource SET body = NULL WHERE address = 'Patient/1'", "no body"),
    ("UPDATE resource SET body = x'00' WHERE state = 0", "has a body"),
    ("DELETE FROM resource WHERE address = 'Patient/1'", "belong"),
    ("UPDATE resource SET state = 0, body = NULL WHERE address = 'Observation/1'", "container"),
    ("INSERT INTO posting VALUES (1, 1)", "dictionary lacks"),
    ("INSERT INTO span VALUES (999, 1, 0, 1, 2, 1)", "Range entries"),
    ("DELETE FROM term WHERE key = 'mueller'", "dictionary lacks"),
    ("UPDATE term SET param = 1 WHERE key = 'mueller'", "wrong parameter"),
    ("UPDATE param_type SET type = 77", "another type"),
    ("UPDATE claim SET rid = 999", "unique key"),
    ("UPDATE resource SET type = 77 WHERE address = 'Patient/1'", "disagree"),
    ("DELETE FROM feed WHERE seq = 2", "feed has a gap"),
]


@pytest.fixture
def sound(store: SqliteStore) -> SqliteStore:
    given(
        store,
        [put("Patient/1", [(FAMILY, "mueller")], claims=["k"]), put("Patient/2", [(FAMILY, "x")])],
        [
            put(
                "Observation/1",
                [(SUBJECT, "Patient/1"), (CODE, "c")],
                [(DATE, "0", 1, 2, "")],
                inner=[("p", "Patient", [(FAMILY, "in")], [])],
            )
        ],
        [put("Patient/1", [(FAMILY, "mueller")], claims=["k"]), delete("Patient/2")],
        [put("Patient/1", [(FAMILY, "mueller")], claims=["k"])],
    )
    assert list(store.check()) == []
    return store


@pytest.mark.parametrize("statement,finding", DEFECTS, ids=range(len(DEFECTS)))
def test_check_finds_a_planted_defect(sound: SqliteStore, path: Path, statement: str, finding: str) -> None:
    other = apsw.Connection(str(path))
    other.execute(statement)
    other.close()
    assert any(finding in one for one in sound.check())


def test_check_finds_damaged_pages(sound: SqliteStore, path: Path) -> None:
    sound.close()
    other = apsw.Connection(str(path))
    page = other.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'posting_rid'").get
    size = other.pragma("page_size")
    other.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size + 3)
        file.write(b"\x00\x00")  # no cells on the index's root page
    damaged = open_store(path)
    assert any("integrity check" in one for one in damaged.check())
    damaged.close()


# --- processes --------------------------------------------------------------------------------------------------------


def test_a_forked_worker_opens_a_connection_of_its_own(store: SqliteStore) -> None:
    given(store, [put("Patient/1", [(FAMILY, "parent")])])
    inherited = store._connection
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert store.read("Patient", "1") is not None
            assert store._connection is not inherited
            given(store, [put("Patient/2", [(FAMILY, "child")])])
            assert find(store, "Patient", has_key(FAMILY, "parent")) == ["Patient/1"]
            status = 0
        finally:
            os.write(writing, bytes([status]))
            os._exit(status)
    os.waitpid(child, 0)
    assert os.read(reading, 1) == b"\x00"
    os.close(reading)
    os.close(writing)
    assert store._connection is inherited
    assert find(store, "Patient", has_key(FAMILY, "child")) == ["Patient/2"]


WRITER = textwrap.dedent(
    """
    import sys
    from fhir_server.storage.sqlite import open_store
    from tests.support.given import FAMILY, put, given

    store, writer = open_store(sys.argv[1]), sys.argv[2]
    for n in range(100_000):
        parts = [put(f"Patient/{writer}-{n}-{part}", [(FAMILY, f"{writer}-{n}")]) for part in range(5)]
        given(store, [*parts, put(f"Device/{writer}")])
        print(n, flush=True)
    """
)


OPENER = textwrap.dedent(
    """
    import sys
    from fhir_server.storage.sqlite import open_store
    from tests.support.given import put, given

    store = open_store(sys.argv[1])
    given(store, [put(f"Patient/{sys.argv[2]}")])
    """
)


def test_several_processes_may_make_the_store_at_once(path: Path) -> None:
    openers = [subprocess.Popen([sys.executable, "-c", OPENER, str(path), str(n)], cwd=ROOT) for n in range(6)]
    assert [one.wait() for one in openers] == [0] * 6
    store = open_store(path, create=False)
    assert store.counts() == {"Patient": 6}
    assert list(store.check()) == []
    store.close()


def test_killed_writers_lose_nothing_acknowledged_and_tear_nothing(path: Path) -> None:
    open_store(path).close()
    for round in range(3):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), f"{round}{side}"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
            for side in "ab"
        ]
        acknowledged = {}
        for writer, side in zip(writers, "ab", strict=True):
            assert writer.stdout is not None
            for _ in range(20):  # both are at work
                acknowledged[side] = int(writer.stdout.readline())
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer, side in zip(writers, "ab", strict=True):
            assert writer.stdout is not None
            for line in writer.stdout:
                if line.endswith("\n"):
                    acknowledged[side] = int(line)
            writer.wait()
            writer.stdout.close()
        store = open_store(path)
        for side, last in acknowledged.items():
            for n in range(last + 1):
                assert len(find(store, "Patient", has_key(FAMILY, f"{round}{side}-{n}"))) == 5
            following = find(store, "Patient", has_key(FAMILY, f"{round}{side}-{last + 1}"))
            assert len(following) in (0, 5)  # it may have committed without having said so
            versions = store.read("Device", f"{round}{side}").version  # type: ignore[union-attr]
            assert versions == last + 1 + len(following) // 5
            assert len(store.history(HistoryQuery("Device", f"{round}{side}", count=10_000)).entries) == versions
        assert list(store.check()) == []
        store.close()
