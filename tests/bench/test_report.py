import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from reid_mtda.bench.charts import curve_chart, duration, heat_table, time_bars
from reid_mtda.bench.report import write_report
from reid_mtda.errors import StorageError

VOID = {"meta", "img", "br", "path", "polyline"}


class Page(HTMLParser):
    """Checks that tags close in order and collects what the page would load."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def row(name, mean_ap, **more):
    tables = {"per_camera": {"gate": {"mAP": mean_ap}, "yard": {"mAP": {"mean": 0.25, "spread": 0.02}}}}
    pairs = {"per_camera_pair": {"gate -> yard": {"mAP": 0.61}, "yard -> gate": {"mAP": 0.52}}}
    return {"method": name, "mAP": mean_ap, "rank1": 0.7, "cmc": [0.7, 0.8, 0.9], **tables, **pairs, **more}


REPORT = {
    "title": "Street & lanes",
    "summary": "Two cameras.",
    "figures": {"mAP": "58.3 %"},
    "results": [
        row("source only", {"mean": 0.342, "spread": 0.011}, params=214_336, macs=38_400_000, ms=1.31),
        row("student <script>alert(1)</script>", np.float32(0.5), ours=True),
        {"method": "without numbers", "mAP": float("nan")},
    ],
    "cameras": [{"camera": "gate", "crops": 1234, "warning": None}, {"camera": "yard", "crops": 5}],
    "stages": [{"name": "harvest", "seconds": 75.2, "peak_mb": 512.4}, {"name": "export", "seconds": 0}],
    "setup": {"commit": "0123", "seeds": [1, 2]},
    "next": ["reid-mtda search a.jpg"],
    "pictures": [{"file": "retrieval.png", "caption": "Answers"}, {"file": "gone.png"}],
}


def test_page_holds_everything_and_loads_nothing(tmp_path):
    Image.new("RGB", (30, 20), (9, 9, 9)).save(tmp_path / "retrieval.png")
    written = write_report(tmp_path, REPORT).read_text()
    page = Page(written)
    text = " ".join(page.text)
    for part in ("Street & lanes", "34.2", "± 1.1", "214 k", "38.4 M", "1.3", "50.0", "1,234", "1 min 15 s", "512 MB"):
        assert part in text
    for part in ("student <script>alert(1)</script>", "reid-mtda search a.jpg", "query camera down", "61.0", "rank k"):
        assert part in text
    assert len(page.loads) == 1 and page.loads[0].startswith("data:image/jpeg;base64,")
    assert "<script" not in written and "http" not in written.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in written and 'name="viewport"' in written
    assert ">warning<" not in written, "a column that is empty throughout is left out"


def test_json_is_the_report_with_null_for_what_is_not_finite(tmp_path):
    write_report(tmp_path, REPORT)
    value = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert value["results"][1]["mAP"] == 0.5
    assert value["results"][2]["mAP"] is None
    assert value["setup"] == {"commit": "0123", "seeds": [1, 2]}


def test_empty_report_is_a_page(tmp_path):
    text = write_report(tmp_path, {}).read_text()
    Page(text)
    assert "<section>" not in text
    assert json.loads((tmp_path / "report.json").read_text()) == {}


def test_pair_table_is_of_ours_else_of_the_last(tmp_path):
    assert "mAP in % of student" in write_report(tmp_path, REPORT).read_text()
    rows = [row("first", 0.1), row("last", 0.2)]
    assert "mAP in % of last" in write_report(tmp_path, {"results": rows}).read_text()


def test_unwritable_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="could not be written"):
        write_report(tmp_path / "file", REPORT)


def test_curves_start_and_end_where_the_numbers_do():
    chart = curve_chart({"a": [0.0, 0.5, 1.0], "b": [0.5]}, ours=["b"])
    points = chart.split('points="')[1].split('"')[0].split()
    spots = [tuple(map(float, point.split(","))) for point in points]
    assert [x for x, _ in spots] == [34, 203, 372]
    assert [y for _, y in spots] == [200, 105, 10]
    assert chart.count("<polyline") == 2
    Page(chart)


def test_curves_that_are_all_perfect_fit_the_chart():
    assert 'points="34.0,10.0 372.0,10.0"' in curve_chart({"a": [1.0, 1.0]})
    assert "nan" not in curve_chart({"a": []})


def test_heat_and_time():
    table = heat_table({("gate", "yard"): 0.5, ("yard", "gate"): None})
    assert table.count("<td") == 4 and "50.0" in table and "0.275" in table
    assert time_bars([]) == ""
    assert "100.00%" in time_bars([{"name": "x", "seconds": 3}])
    assert [duration(s) for s in (0.34, 42.2, 59.7, 125, 4000)] == [
        "0.3 s",
        "42 s",
        "1 min 00 s",
        "2 min 05 s",
        "1 h 06 min",
    ]
