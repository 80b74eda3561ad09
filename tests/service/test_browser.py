"""The page in a real browser: sign in, search by click and by upload, filter, confirm, a forbidden page; keyboard."""

import importlib
import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from builders import is_required
from PIL import Image
from service_fixtures import REASON, SECRET_URL, RunningService, crop_of, png_of, show_live

from reid_mtda.camera_settings import Camera, Travel
from reid_mtda.service.app import create_app
from reid_mtda.service.site_time import site_time

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.skipif(
    not (CHROMIUM.exists() or is_required("chromium")),
    reason="no browser; run: apt-get update && apt-get install -y chromium",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    name = "playwright.sync_api"
    api = importlib.import_module(name) if is_required("chromium") else pytest.importorskip(name)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def address(running: RunningService) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(running.service), port=0, log_config=None, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    running.service.closing.set()
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def browse(chromium, address: str, running: RunningService) -> Iterator[object]:
    """(role, screen) -> a page signed in; whatever its console complains about fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(role: str, *, user: str = "", width: int = 1280, cameras: list[str] | None = None):
        context = chromium.new_context(viewport={"width": width, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda told: complaints.append(told.text) if "Content Security" in told.text else None)
        page.goto(address + "/")
        page.get_by_label("Access token").fill(running.token(role, user=user, cameras=cameras))
        page.keyboard.press("Enter")
        page.wait_for_url(address + "/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def test_search_by_click_filter_and_confirm_by_two(browse, running: RunningService) -> None:
    show_live(running, "gate", 1)
    page = browse("operator", user="ann")
    page.get_by_role("button", name="Search for this person before gate").click()
    page.get_by_label("Purpose").fill(REASON["purpose"])
    page.get_by_label("Case reference").fill(REASON["case_reference"])
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**/searches/*")
    assert page.locator(".hit").count() == 12
    assert page.locator("svg.timeline a").count() == 12
    page.get_by_text("Filters").click()
    page.locator("main").get_by_text("market", exact=True).first.click()
    page.get_by_role("button", name="Apply").click()
    page.wait_for_load_state()
    assert page.locator(".hit .line b").all_inner_texts() == ["market"] * 4
    page.get_by_role("button", name="Answer 1 is the same person").click()
    page.get_by_text("waits for a second person").wait_for()
    # Whoever proposed has no buttons; somebody else has.
    page.goto(page.url.split("/searches")[0] + "/reviews")
    assert page.get_by_role("button", name="Same person").count() == 0
    second = browse("reviewer", user="bob")
    second.get_by_role("link", name="Reviews").click()
    second.get_by_role("button", name="Same person").click()
    second.get_by_role("link", name="confirmed").click()
    second.get_by_text("bob says").wait_for()


def test_search_by_upload_on_a_phone(browse, tmp_path: Path) -> None:
    picture = tmp_path / "somebody.png"
    picture.write_bytes(png_of(crop_of(2)))
    page = browse("operator", width=390)
    page.get_by_role("link", name="Search").click()
    page.get_by_label("Picture of one person").set_input_files(picture)
    page.get_by_alt_text("The picture chosen").wait_for(state="visible")
    page.get_by_label("Purpose").fill(REASON["purpose"])
    page.get_by_label("Case reference").fill(REASON["case_reference"])
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**/searches/*")
    assert set(page.locator(".hit .line b").all_inner_texts()[:3]) == {"gate", "market", "plaza"}
    for path in ("/", "/sightings", "/search", "/reviews", "/status"):
        page.goto(page.url.split("/", 3)[0] + "//" + page.url.split("/", 3)[2] + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_a_forbidden_page_says_so(browse) -> None:
    page = browse("viewer")
    answer = page.goto(page.url + "audit")
    assert answer.status == 403
    assert page.get_by_role("heading", name="Not allowed").is_visible()
    assert page.get_by_role("link", name="Search").count() == 0


def test_a_sighting_appears_as_it_happens_for_those_who_may_see_it(browse, running: RunningService) -> None:
    running.service.times = site_time("Pacific/Chatham")  # where nobody's browser is
    page, other = browse("viewer"), browse("viewer", user="guest", cameras=["market"])
    before = page.locator("#strip li").count()
    running.service.system.events.publish(
        "sighting",
        "gate",
        sighting_id=running.numbers[0, "gate"],
        track_id=0,
        start_s=running.began,
        end_s=running.began + 1,
    )
    page.locator("#strip li.new").wait_for()
    told = page.locator("#strip li.new .when").inner_text()
    assert told == running.service.times.clock(running.began)  # and not by the browser's own clock
    assert page.locator("#strip li").count() in (before + 1, 12)
    time.sleep(1)
    assert other.locator("#strip li.new").count() == 0


def test_what_goes_wrong_and_is_mended_appears_as_it_happens(
    browse, running: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, other = browse("operator"), browse("viewer")
    notes, system = page.locator("#notes"), running.service.system
    system.periodic_checks.clear()  # they would find that the folder is there
    with monkeypatch.context() as patch:
        patch.setattr("reid_mtda.live.disk_guard.free_disk_mb", lambda folder: 300.0)
        system._check_disk()
        notes.locator(".bad", has_text="pictures are not stored, sightings are").wait_for()
        other.locator("#notes .bad").wait_for()
        system.alerts.put("site", "the folder is gone")
        notes.locator(".warn", has_text="the folder is gone").wait_for()
        page.reload()  # what was wrong before is on the page, and mended there as well
        assert notes.locator("p").count() == 2
    system._check_disk()
    notes.locator(".ok", has_text="there is room on the disk again").wait_for()
    system.alerts.put("site", "")
    notes.locator(".warn").wait_for(state="detached")
    assert notes.locator("p").count() == 1 and other.locator("#notes .warn").count() == 0


def test_cameras_that_come_and_go_do_so_on_the_page(browse, running: RunningService) -> None:
    show_live(running, "gate", 0)
    page, system = browse("operator"), running.service.system
    page.locator("button.person").wait_for()
    system.pool.add("yard", Camera(url=SECRET_URL))
    page.locator('.camera[data-camera="yard"]').wait_for()
    assert page.locator("#count").inner_text() == "4 cameras"
    system.pool.remove("market")
    page.locator('.camera[data-camera="market"]').wait_for(state="detached")
    assert page.locator(".camera").count() == 3
    page.locator("button.person").wait_for()  # and the others go on
    stream = system.pool._cameras["gate"].stream
    stream._ticks.extend(stream._clock() - wait for wait in (0.8, 0.6, 0.4, 0.2, 0.0))
    page.locator('.camera[data-camera="gate"] .fps', has_text="5.0 fps").wait_for()


def test_an_address_does_not_break_letter_by_letter_on_a_phone(browse) -> None:
    page = browse("viewer", width=390)
    page.goto(page.url + "status")
    for url in page.locator("td .url").all():
        assert url.bounding_box()["height"] < 90
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("screen", [1280, 390])
@pytest.mark.parametrize("shape", [(240, 320), (320, 180), (180, 420), (320, 320)], ids=["4:3", "9:16", "21:9", "1:1"])
def test_boxes_lie_on_people_whatever_the_shape_of_the_picture(
    browse, running: RunningService, shape: tuple[int, int], screen: int
) -> None:
    """Whoever is clicked is searched for: the box is measured against the coat's pixels as the browser shows them."""
    show_live(running, "gate", 1, height=shape[0], width=shape[1])
    page = browse("operator", width=screen)
    button = page.locator('.camera[data-camera="gate"] button.person')
    button.wait_for()
    image = page.locator('.camera[data-camera="gate"] img')
    page.wait_for_function(
        "image => image.naturalWidth > 0 && image.src.startsWith('blob:')", arg=image.element_handle()
    )
    page.wait_for_timeout(200)
    view = page.locator('.camera[data-camera="gate"] .view')
    shown = np.asarray(Image.open(io.BytesIO(view.screenshot())).convert("RGB")).astype(int)
    coat = (shown[..., 1] > 150) & (shown[..., 0] < 80) & (shown[..., 2] < 80)
    rows, columns = np.flatnonzero(coat.any(axis=1)), np.flatnonzero(coat.any(axis=0))
    box, outer = button.bounding_box(), view.bounding_box()
    left, top, scale = box["x"] - outer["x"], box["y"] - outer["y"], box["height"] / 96
    # The coat reaches from 10 to 50 of the crop's 96 rows, and over its whole width.
    assert [columns[0], columns[-1]] == pytest.approx([left, left + box["width"]], abs=4)
    assert [rows[0], rows[-1]] == pytest.approx([top + 10 * scale, top + 50 * scale], abs=4)
    assert outer["width"] / outer["height"] == pytest.approx(16 / 9, rel=0.01)  # the page keeps its grid
    button.click()
    page.wait_for_url("**/search?pick=*")


def test_whoever_left_before_the_click_is_said_to_have_left(browse, running: RunningService) -> None:
    show_live(running, "gate", 0)
    page = browse("operator")
    page.locator("button.person").wait_for()
    running.service.system.pool.worker("gate").picture = None
    page.locator("button.person").click()
    page.locator("#notes .bad", has_text="Nobody was picked: camera 'gate': person 5 has left the picture").wait_for()
    show_live(running, "gate", 1)
    page.locator("button.person").click()
    page.wait_for_url("**/search?pick=*")


def test_the_keyboard_reaches_content_and_people(browse, running: RunningService) -> None:
    show_live(running, "gate", 0)
    page = browse("operator")
    page.locator("button.person").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(4):
        page.keyboard.press("Tab")
        if "person" in page.evaluate("document.activeElement.className"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?pick=*")


def test_a_picture_with_its_camera_and_time_leaves_out_who_could_not_be_there(
    browse, running: RunningService, tmp_path: Path
) -> None:
    camera = running.service.system.pool._cameras["gate"]
    camera.settings = camera.settings.model_copy(update={"neighbours": {"market": Travel(min_s=5, max_s=600)}})
    picture = tmp_path / "somebody.png"
    picture.write_bytes(png_of(crop_of(2)))
    page = browse("operator", width=390)
    page.get_by_role("link", name="Search").click()
    page.get_by_label("Picture of one person").set_input_files(picture)
    page.get_by_label("Purpose").fill(REASON["purpose"])
    page.get_by_label("Case reference").fill(REASON["case_reference"])
    page.get_by_label("Taken by, if known").select_option("gate")
    page.get_by_label("And when").fill("2001-01-01T08:00:00")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**/searches/*")
    page.get_by_text("4 sightings left out that are later than the site says people take").wait_for()
    assert page.locator(".hit").count() == 8
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Show also what nobody could have reached in time").check()
    page.get_by_role("button", name="Apply").click()
    page.wait_for_load_state()
    assert page.locator(".hit").count() == 12
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_mask_is_drawn_with_the_keyboard_and_saved(browse, running: RunningService) -> None:
    show_live(running, "gate", 0)
    page = browse("admin", width=390)
    page.goto(page.url + "cameras/gate/regions")
    page.get_by_role("button", name="Add a mask").press("Enter")
    corner = page.get_by_role("button", name="Corner 1:")
    assert corner.evaluate("one => one === document.activeElement")
    for _ in range(4):
        corner.press("Shift+ArrowLeft")
    corner.press("+")
    page.get_by_role("button", name="Corner 2:").press("Delete")
    page.get_by_role("button", name="Add a zone").click()
    name = page.get_by_label("Name of zone 2")
    name.fill("door")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/regions?saved=true")
    settings = running.service.system.pool.state("gate").settings
    assert settings.masks[0][0] == (0.15, 0.35) and len(settings.masks[0]) == 4 and set(settings.zones) == {"door"}
    page.get_by_role("button", name="Remove Zone door").click()
    box = page.get_by_role("button", name="Corner 1:")
    box.hover()
    page.mouse.down()
    page.mouse.move(0, 0)
    page.mouse.up()
    page.get_by_role("button", name="Save").click()
    page.wait_for_function("!document.body.textContent.includes('Zone door')")
    settings = running.service.system.pool.state("gate").settings
    assert settings.masks[0][0] == (0.0, 0.0) and not settings.zones


def test_somebody_is_erased_by_picture_by_two_people(browse, running: RunningService, tmp_path: Path) -> None:
    picture = tmp_path / "somebody.png"
    picture.write_bytes(png_of(crop_of(2)))
    page = browse("operator", user="ann", width=390)
    page.get_by_role("link", name="Search").click()
    page.get_by_label("Picture of one person").set_input_files(picture)
    page.get_by_label("Purpose").fill("erasure asked for")
    page.get_by_label("Case reference").fill("2026-0414")
    page.get_by_text("Narrow it down").click()
    page.get_by_text("Search for the whole picture").click()
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_url("**/searches/*")
    page.get_by_text("This person is to be erased").click()
    for answer in (1, 2, 3):
        page.locator("#erasure").get_by_text(f"Answer {answer},").click()
    page.get_by_label("Who asked for it").fill("letter of 3 March")
    assert_no_overflow(page)
    save(page, "erasure_asked")
    page.get_by_role("button", name="Ask for the erasure").click()
    page.wait_for_url("**/erasures")
    assert page.get_by_role("button", name="Erase").count() == 0  # ann asked
    boss = browse("admin", user="bob")
    boss.get_by_role("link", name="Erasures").click()
    boss.wait_for_url("**/erasures")
    boss.wait_for_load_state("networkidle")
    save(boss, "erasures")
    page.reload()
    page.wait_for_load_state("networkidle")
    assert_no_overflow(page)
    save(page, "erasures_phone")
    boss.emulate_media(color_scheme="dark")
    save(boss, "erasures_dark")
    boss.get_by_role("button", name="Erase 3 sightings for good").click()
    boss.get_by_text("bob decided").wait_for()
    save(boss, "erasures_done")
    assert len(running.service.system.gallery) == 9


def test_evidence_is_offered_for_what_two_people_confirmed(browse, running: RunningService) -> None:
    from test_evidence import review_of

    review_of(running)
    page = browse("reviewer", user="eve")
    page.goto(page.url + "reviews?state=confirmed")
    page.wait_for_load_state("networkidle")
    save(page, "evidence")
    with page.expect_download() as download:
        page.get_by_role("link", name="Evidence").click()
    assert download.value.suggested_filename == "review-1.zip"


def assert_no_overflow(page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def save(page, name: str) -> None:
    """A picture to look at, where REID_MTDA_SCREENSHOTS names a folder."""
    if folder := os.environ.get("REID_MTDA_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)
