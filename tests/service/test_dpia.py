"""The sheet for an impact assessment says what the configuration does, and names what is missing."""

from pathlib import Path

import pytest
from builders import reid_mtda
from service_fixtures import RunningService

from reid_mtda.camera_settings import Camera
from reid_mtda.errors import ConfigError
from reid_mtda.schema import load_yaml, parse
from reid_mtda.service.dpia import dpia_sheet, missing
from reid_mtda.service.settings import ServiceSettings

WHOLE = {
    "url": "rtsp://user:pa55word@10.0.0.5/live",
    "purpose": "finding lost children",
    "legal_basis": "GDPR Art. 6(1)(f)",
    "sign_text": "Cameras find lost | children here.\nAsk at the desk.",
}


def test_a_whole_configuration_lacks_nothing_and_shows_no_password() -> None:
    cameras, settings = {"gate": parse(Camera, WHOLE, where="t")}, ServiceSettings()
    sheet = dpia_sheet("shop", cameras, settings)
    assert missing(cameras, settings) == [] and "Nothing that the configuration could hold is missing" in sheet
    assert "pa55word" not in sheet and "finding lost children" in sheet and "GDPR Art. 6(1)(f)" in sheet
    assert "Cameras find lost \\| children here. Ask at the desk." in sheet and "**missing**" not in sheet
    assert "Nobody outside of the service is told" in sheet


def test_what_is_missing_or_asks_for_a_reason_stands_first() -> None:
    bold = {"url": "x.mp4", "retention_days": 90.0, "pictures_in_events": True, "keep_for_adaptation": True}
    given = {
        "notify": {
            "mqtt": {"host": "broker"},
            "webhooks": [{"name": "h", "url": "http://u:pa55word@h/x?token=abc", "secret_file": "s"}],
        }
    }
    cameras, settings = {"hall": parse(Camera, bold, where="t")}, parse(ServiceSettings, given, where="t")
    sheet = dpia_sheet("shop", cameras, settings)
    for words in (
        "hall: no purpose in its file",
        "hall: no legal_basis in its file",
        "hall: no sign_text in its file",
        "kept 90 days; write down why",
        "hall: pictures leave this service",
        "a model trained on them outlives them",
        "http://***@h/x?***: events are posted without encryption",
        "broker: events go to the broker without encryption",
        "MQTT broker broker:1883",
        "pictures of hall",
    ):
        assert words in sheet
    assert "pa55word" not in sheet and "abc" not in sheet


def test_the_command_line_prints_it(tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text("url: x.mp4\npurpose: counting visitors\n")
    told = reid_mtda("dpia", tmp_path)
    assert told.returncode == 0 and "counting visitors" in told.stdout and "gate: no sign_text" in told.stdout


def test_the_running_service_tells_its_own_to_admins_alone(running: RunningService) -> None:
    answer = running.client("admin").get("/api/v1/dpia")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/markdown")
    assert "| plaza |" in answer.text and "pa55word" not in answer.text
    assert running.client("reviewer").get("/api/v1/dpia").status_code == 403


@pytest.mark.parametrize("text", ["purpose: ''", "purpose: [a]", f"sign_text: {'x' * 2001}"])
def test_texts_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "gate.yaml").write_text(f"url: x.mp4\n{text}\n")
    with pytest.raises(ConfigError, match=r"gate\.yaml"):
        load_yaml(tmp_path / "gate.yaml", Camera)
