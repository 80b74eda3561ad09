"""One clock for a site: pages, forms and the time line, in summer and winter, and on machines that name no zone."""

import time
from pathlib import Path

import pytest
from service_fixtures import REASON, RunningService

from reid_mtda.service import site_time as module
from reid_mtda.service.site_time import site_time

SUMMER, WINTER = 1_751_371_200.0, 1_735_732_800.0  # 1 July and 1 January 2025, 12:00 UTC


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """(TZ, link of /etc/localtime) -> the clock of a machine set so."""

    def set_to(tz: str | None, localtime: Path) -> object:
        if tz is None:
            monkeypatch.delenv("TZ", raising=False)
        else:
            monkeypatch.setenv("TZ", tz)
        time.tzset()
        monkeypatch.setattr(module, "_LOCALTIME", localtime)
        return site_time(None)

    yield set_to
    monkeypatch.undo()
    time.tzset()


def test_a_site_has_its_own_clock_in_summer_and_winter() -> None:
    berlin = site_time("Europe/Berlin")
    assert berlin.moment(SUMMER) == "01 Jul 2025, 14:00:00" and berlin.moment(WINTER) == "01 Jan 2025, 13:00:00"
    for moment in (SUMMER, WINTER, SUMMER + 0.0):
        assert berlin.parse(berlin.field(moment)) == moment
    assert berlin.parse("2025-07-01T12:00:00Z") == SUMMER
    assert berlin.field(None) == ""


def test_the_machine_names_its_zone(machine, tmp_path: Path) -> None:
    link = tmp_path / "localtime"
    link.symlink_to("/usr/share/zoneinfo/America/New_York")
    assert machine(None, link).name == "America/New_York"
    assert machine("Asia/Tokyo", link).name == "Asia/Tokyo"
    assert machine(":Asia/Tokyo", link).moment(SUMMER) == "01 Jul 2025, 21:00:00"
    assert machine(None, tmp_path / "none").name == "UTC"


def test_a_machine_that_names_no_zone_shows_how_far_it_is_from_utc(machine, tmp_path: Path) -> None:
    there = machine("XYZ-5:30", tmp_path / "none")
    assert there.name == "+05:30" and there.moment(WINTER) == "01 Jan 2025, 17:30:00"


def test_every_page_shows_and_reads_times_by_the_site_s_clock(running: RunningService) -> None:
    running.service.times = site_time("Asia/Tokyo")
    client, csrf = running.signed_in("admin")
    number = running.numbers[0, "gate"]
    found = {"sighting_id": number, **REASON, "csrf": csrf}
    answer = client.post("/search", data=found | {"start": running.service.times.field(running.began + 250)})
    page = client.get(answer.headers["location"]).text
    assert page.count('<li class="hit') == 8  # those of market and plaza alone began late enough
    for path in ("/", "/sightings", "/search", "/reviews", "/status", "/tokens", "/audit", f"/sightings/{number}"):
        assert "Times are in Asia/Tokyo." in client.get(path).text, path
    assert site_time("Asia/Tokyo").moment(running.began) in client.get(f"/sightings/{number}").text
    assert 'data-zone="Asia/Tokyo"' in client.get("/").text
    assert running.visitor().get("/login").text.count("Times are in Asia/Tokyo.") == 1
