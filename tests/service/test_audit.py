"""The audit's chain: whatever is changed, removed, inserted or cut off is found."""

import sqlite3
import threading
from pathlib import Path

import pytest

from reid_mtda.errors import StorageError
from reid_mtda.service import audit as audit_module
from reid_mtda.service.audit import DOUBTED, FILE, Audit, verify_audit
from reid_mtda.service.audit_chain import FIRST_HASH, HEAD_FILE, entry_hash
from reid_mtda.service.roles import Principal, Role


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
    assert verify_audit(filled, heads=[head]).is_sound
    assert "not the one noted" in verify_audit(filled, heads=[(20, "0" * 64)]).fault
    tamper(filled, "DELETE FROM audit WHERE number > 15")
    (filled / HEAD_FILE).unlink()  # whoever cuts may remove what was noted beside, but not what was noted elsewhere
    assert verify_audit(filled).is_sound
    assert "cut off" in verify_audit(filled, heads=[head]).fault


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DELETE FROM audit WHERE number > 15", "ends at entry 15, but 20 was noted"),
        ("DELETE FROM audit", "ends at entry 0, but 20 was noted"),
        (
            "INSERT INTO audit SELECT 0, time_s, user, action, detail, before, hash FROM audit WHERE number = 1",
            "entry 0",
        ),
        ("INSERT INTO audit SELECT -7, time_s, user, action, detail, before, hash FROM audit LIMIT 1", "entry -7"),
        ("INSERT INTO audit SELECT 99, time_s, user, action, detail, before, hash FROM audit LIMIT 1", "entry 99"),
    ],
)
def test_every_row_is_looked_at_and_the_end_is_noted_beside(filled: Path, statement: str, fault: str) -> None:
    tamper(filled, statement)
    assert fault in verify_audit(filled).fault


def test_a_chain_written_anew_is_not_the_one_noted(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    audit = Audit(other)
    for number in range(30):
        audit.add("eve", "search", case=f"c-{number}")
    audit.close()
    (other / FILE).replace(filled / FILE)
    assert "entry 20: is not the one noted" in verify_audit(filled).fault


@pytest.mark.parametrize("lost", ["removed", "cut", "rewritten"])
def test_a_lost_record_is_an_entry_of_its_own_and_told(filled: Path, lost: str) -> None:
    if lost == "removed":
        (filled / FILE).unlink()
    elif lost == "cut":
        tamper(filled, "DELETE FROM audit WHERE number > 15")
    else:
        tamper(filled, "UPDATE audit SET hash = before WHERE number = 20")
    audit = Audit(filled)
    told = {"removed": "a new chain begins", "cut": "its end was cut off", "rewritten": "written anew"}[lost]
    assert told in audit.doubts()[0]
    audit.add("ann", "search")
    assert [(e.action, e.user) for e in audit.entries(limit=2)] == [("search", "ann"), (DOUBTED, "service")]
    audit.close()
    again = Audit(filled)  # it is not forgotten by a restart
    assert told in again.doubts()[0] and told in again.verify().doubts[0]
    again.close()


def test_a_first_start_doubts_nothing_and_an_audit_beside_tokens_must_be_there(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "new")
    assert audit.doubts() == () and audit.check().is_sound
    audit.close()
    (tmp_path / "access.sqlite").write_bytes(b"tokens")
    assert "a new chain begins" in Audit(tmp_path).doubts()[0]


def test_an_emptied_audit_is_damage(filled: Path) -> None:
    (filled / FILE).write_bytes(b"")
    for use in (Audit, verify_audit):
        with pytest.raises(StorageError, match="0 bytes"):
            use(filled)


def test_nothing_is_written_to_an_audit_that_was_removed(filled: Path) -> None:
    audit = Audit(filled)
    (filled / FILE).rename(filled / "elsewhere")
    with pytest.raises(StorageError, match="removed or replaced"):
        audit.add("ann", "search")
    assert "removed or replaced" in audit.doubts()[0]


def test_a_check_walks_what_came_and_everything_once_others_wrote(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, walked = Audit(filled), list[int]()
    real = audit_module.entry_hash
    monkeypatch.setattr(audit_module, "entry_hash", lambda number, *rest: walked.append(number) or real(number, *rest))
    assert audit.check().entries == 20 and walked == list(range(1, 21))
    audit.add("ann", "search")
    walked.clear()
    assert audit.check().entries == 21 and walked == [21]
    walked.clear()
    assert audit.check().entries == 21 and walked == []
    tamper(filled, "UPDATE audit SET user = 'eve' WHERE number = 3")
    assert "entry 3" in audit.check().fault and "entry 3" in audit.doubts()[0]
    audit.close()


def test_an_entry_of_somebody_signed_in_names_their_token(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    assert audit.add(Principal("ann", Role.ADMIN, None, "1a2b"), "search").detail == {"by_token": "1a2b"}
    assert audit.verify().is_sound
    audit.close()


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
