"""An attack by load: cameras, searchers and pages at once for minutes; what memory does meanwhile is measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from builders import environment
from service_fixtures import REASON

from reid_mtda.synthetic.street import CAMERAS

SECONDS = float(os.environ.get("REID_MTDA_SOAK_S", "240"))
NUM_CAMERAS, SEARCHERS, PAGES = 12, 8, 4
WARM_S = 0.4  # of the time: models, indexes and buffers come to their size
MOST_MB_A_MINUTE = 6.0

SERVE = """
import sys
from pathlib import Path
from reid_mtda.service.run import serve
site, model, gallery, config = map(Path, sys.argv[1:])
serve(site, model, gallery, port=0, config=config, tell=lambda line: print(line, flush=True))
"""


def start(folder: Path, model: Path) -> tuple[subprocess.Popen[str], str, str]:
    """A service of twelve cameras that play for ever; its process, address and token."""
    (folder / "site").mkdir()
    for number in range(NUM_CAMERAS):
        url = f"synthetic://street?camera={CAMERAS[number % len(CAMERAS)]}&seed={number}&duration=60"
        (folder / "site" / f"c{number:02d}.yaml").write_text(f"url: {url}\nfps: 2\ndetector: motion\n")
    (folder / "live.yaml").write_text("live: {streams: {loop_recordings: true}}\n")
    places = [str(folder / name) for name in ("site",)] + [
        str(model),
        str(folder / "gallery"),
        str(folder / "live.yaml"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, *places], stdout=subprocess.PIPE, text=True, env=environment()
    )
    address = token = ""
    assert process.stdout is not None
    for line in process.stdout:
        address = address or next(iter(re.findall(r"https?://\S+", line)), "")
        token = token or next(iter(re.findall(r"rmt_\S+", line)), "")
        if line.startswith("stop with"):
            break
    assert address and token, f"the service did not start: {process.poll()}"
    return process, address.rstrip("/"), token


@pytest.mark.attack
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_stays_flat_under_cameras_searchers_and_pages(tmp_path: Path, model_folder: Path) -> None:
    process, address, token = start(tmp_path, model_folder)
    ended, faults, counts = threading.Event(), list[str](), {"searches": 0, "pages": 0}

    def visit(work: str, number: int) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
            while not ended.is_set():
                try:
                    if work == "searches":
                        rows = client.get("/api/v1/sightings?limit=50").json().get("sightings", [])
                        if not rows:
                            ended.wait(1)
                            continue
                        row = rows[(number * 7) % len(rows)]
                        body = {"sighting_id": row["sighting_id"], "k": 20, **REASON}
                        answers = [client.post("/api/v1/search", json=body)]
                        counts["searches"] += 1
                    else:
                        camera = f"c{(number + counts['pages']) % NUM_CAMERAS:02d}"
                        paths = (f"/api/v1/cameras/{camera}/picture", "/api/v1/cameras", "/api/v1/alerts")
                        answers = [client.get(path) for path in paths]
                        counts["pages"] += 1
                    faults.extend(f"{a.request.url}: {a.status_code}" for a in answers if a.status_code >= 500)
                except httpx.HTTPError as error:
                    faults.append(f"{type(error).__name__}: {error}")
                ended.wait(0.5)

    visitors = [threading.Thread(target=visit, args=("searches", n)) for n in range(SEARCHERS)]
    visitors += [threading.Thread(target=visit, args=("pages", n)) for n in range(PAGES)]
    watched, began, seen = psutil.Process(process.pid), time.monotonic(), list[tuple[float, float]]()
    try:
        for visitor in visitors:
            visitor.start()
        while (now := time.monotonic() - began) < SECONDS:
            memory = watched.memory_full_info()
            seen.append((now, memory.uss / 1e6))  # what is the process's own; mapped files come and go
            time.sleep(min(2.0, SECONDS / 60))
        rows = httpx.get(f"{address}/api/v1/model", headers={"Authorization": f"Bearer {token}"}).json()["gallery_size"]
    finally:
        ended.set()
        for visitor in visitors:
            visitor.join(90)
        process.terminate()
        process.wait(300)
    late = np.array([row for row in seen if row[0] >= WARM_S * SECONDS])
    slope = float(np.polyfit(late[:, 0] / 60, late[:, 1], 1)[0])
    sys.stdout.write(
        f"{SECONDS:.0f} s, {NUM_CAMERAS} cameras, {counts['searches']} searches by {SEARCHERS}, {counts['pages']} "
        f"rounds of {PAGES} pages, {rows} sightings: {seen[0][1]:.0f} MB at first, {late[0, 1]:.0f} MB once warm, "
        f"{seen[-1][1]:.0f} MB in the end, {slope:+.1f} MB a minute once warm\n"
    )
    assert not faults, f"{len(faults)} faults: {faults[:5]}"
    assert counts["searches"] and counts["pages"] and process.returncode == 0
    assert slope < MOST_MB_A_MINUTE, "memory grows"
