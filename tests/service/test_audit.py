"""The audit's chain: whatever is changed, removed, inserted or cut off is found."""

import sqlite3
import threading
from pathlib import Path

import pytest

from reid_mtda.errors import StorageError
from reid_mtda.service.audit import FILE, FIRST_HASH, Audit, entry_hash, verify_audit


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    audit = Audit(tmp_path)
    for number in range(20):
        audit.add("ann" if number % 2 else "bob", "search", case=f"c-{number}", cameras=["gate"])
    audit.close()
    return tmp_path


def tamper(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / FILE) as connection:
        connection.execute("DROP TRIGGER IF EXISTS no_update")
        connection.execute("DROP TRIGGER IF EXISTS no_delete")
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_a_sound_chain_is_sound(filled: Path) -> None:
    report = verify_audit(filled)
    assert report.is_sound and report.entries == 20


def test_nothing_done_is_sound(tmp_path: Path) -> None:
    Audit(tmp_path).close()
    assert verify_audit(tmp_path).head == FIRST_HASH


@pytest.mark.parametrize("statement", ["UPDATE audit SET user = 'eve' WHERE number = 3", "DELETE FROM audit"])
def test_the_file_itself_refuses_changes(filled: Path, statement: str) -> None:
    with sqlite3.connect(filled / FILE) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statements", "fault"),
    [
        (["UPDATE audit SET user = 'eve' WHERE number = 7"], "entry 7: its content does not match"),
        (["UPDATE audit SET detail = '{}' WHERE number = 1"], "entry 1: its content does not match"),
        (["UPDATE audit SET time_s = time_s - 60 WHERE number = 20"], "entry 20: its content does not match"),
        (["DELETE FROM audit WHERE number = 5"], "entry 6: expected number 5; entries were removed"),
        (["DELETE FROM audit WHERE number < 4"], "entry 4: expected number 1"),
        (["UPDATE audit SET hash = before WHERE number = 9"], "entry 9"),
    ],
)
def test_tampering_is_found_where_it_happened(filled: Path, statements: list[str], fault: str) -> None:
    tamper(filled, *statements)
    assert fault in verify_audit(filled).fault


def test_an_entry_rewritten_with_a_fitting_hash_breaks_the_next(filled: Path) -> None:
    (entry,) = [e for e in Audit(filled).entries() if e.number == 7]
    forged = entry_hash(7, entry.time_s, "eve", entry.action, "{}", entry.before)
    tamper(filled, f"UPDATE audit SET user = 'eve', detail = '{{}}', hash = '{forged}' WHERE number = 7")
    assert "entry 8: does not follow from entry 7" in verify_audit(filled).fault


def test_a_noted_head_shows_a_cut_end_and_a_new_chain(filled: Path) -> None:
    head = (20, verify_audit(filled).head)
    assert verify_audit(filled, head=head).is_sound
    assert "not the one noted" in verify_audit(filled, head=(20, "0" * 64)).fault
    tamper(filled, "DELETE FROM audit WHERE number > 15")
    assert verify_audit(filled).is_sound
    assert "cut off" in verify_audit(filled, head=head).fault


def test_entries_of_many_threads_form_one_chain(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    threads = [
        threading.Thread(target=lambda name=name: [audit.add(name, "search") for _ in range(25)]) for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert audit.verify().entries == 100 and audit.verify().is_sound
    assert [entry.number for entry in audit.entries(before=50, limit=3)] == [49, 48, 47]
    audit.close()


def test_no_audit_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"holds no audit\.sqlite"):
        verify_audit(tmp_path)
