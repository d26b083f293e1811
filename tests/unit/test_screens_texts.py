"""The texts of the screens: complete in both languages, after the glossary, none in the code."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "frontend" / "src"
CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
PLACE = re.compile(r"\{(\w+)")
TEXTS: dict[str, dict[str, str]] = {
    language: json.loads((SOURCE / "i18n" / f"{language}.json").read_text("utf-8"))
    for language in ("en", "zh")
}

# Text of a key in the screens, and the glossary term that it must use.
TERMS = {
    "kpi.takt": "takt",
    "kpi.bottleneck": "bottleneck",
    "kpi.fpy": "first pass yield",
    "kpi.oee": "OEE index",
    "condition.starved": "starved",
    "condition.blocked": "blocked",
    "condition.setup": "changeover",
    "condition.held": "held",
    "condition.idle": "idle",
    "condition.down": "down",
    "reason.breakdown": "breakdown",
    "reason.micro_stop": "micro-stop",
    "reason.tool_change": "tool change",
    "reason.quality_stop": "quality stop",
    "reason.maintenance": "maintenance",
    "schedule.frozen": "frozen zone",
    "schedule.setup": "changeover",
    "schedule.legend.ghost": "previous plan",
    "nav.schedule": "schedule",
    "nav.line": "line",
    "nav.trend": "trend",
    "nav.work": "work list",
    "line.job": "job order",
    "line.serial": "serial number",
    "auto.title": "autonomy level",
    "card.level": "autonomy level",
    "card.approve": "approve",
    "card.reject": "reject",
    "card.veto": "veto",
    "card.confidence": "confidence",
    "work.report": "completion report",
    "work.center": "work center",
    "work.scrap": "scrap",
    "class.release": "dispatch",
    "event.decision": "decision",
    "event.rush_order": "rush order",
    "event.alarm": "alarm",
    "declared.down": "planned stop",
    "declared.shift": "extra shift",
    "orders.due": "due date",
    "orders.predicted": "predicted finish",
    "orders.priority": "priority",
    "kpiname.wip": "WIP",
    "kpiname.makespan_s": "makespan",
    "kpiname.weighted_tardiness_s": "weighted lateness",
    "palette.signal": "signal",
    "palette.station": "station",
    "brain.source": "source",
    "brain.historian": "historian",
    "wall.normal": "normal band",
}
SHORT_ENGLISH = {"auto.title", "orders.due", "class.release"}
"""Their English is shorter than the term, as a heading or a button."""


def glossary() -> dict[str, str]:
    page = (ROOT / "docs" / "reference" / "glossary.md").read_text("utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    return {row[0]: row[1] for row in rows[2:]}


def test_both_languages_have_the_same_keys() -> None:
    assert TEXTS["en"].keys() == TEXTS["zh"].keys()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_text_is_empty(language: str) -> None:
    assert [key for key, text in TEXTS[language].items() if not text.strip()] == []


def test_no_parameter_stands_in_one_language_alone() -> None:
    plural = re.compile(r"\{\w+\|[^}]*\}")
    for key, english in TEXTS["en"].items():
        places = [set(PLACE.findall(plural.sub("", t))) for t in (english, TEXTS["zh"][key])]
        assert places[0] == places[1], key


def test_chinese_is_chinese_and_english_is_not() -> None:
    for key, text in TEXTS["en"].items():
        assert key.startswith(("language.", "top.language")) or not CJK.search(text), key
    same = {key for key, text in TEXTS["zh"].items() if not CJK.search(text)}
    assert same <= {"reason.none", "trend.csv", "language.short", "language.other"}


def test_the_glossary_has_sixty_terms_in_order_and_both_languages() -> None:
    terms = glossary()
    assert len(terms) >= 60
    assert list(terms) == sorted(terms, key=str.lower)
    assert all(CJK.search(chinese) for chinese in terms.values())


@pytest.mark.parametrize("key", TERMS)
def test_the_screens_follow_the_glossary(key: str) -> None:
    term = TERMS[key]
    assert glossary()[term] in TEXTS["zh"][key]
    if key not in SHORT_ENGLISH:
        assert term.lower() in TEXTS["en"][key].lower()


def test_no_text_stands_in_the_code() -> None:
    between = re.compile(r"(?<![=-])>\s*([^<>{}=;()]*[A-Za-z\u3400-\u9fff]{2,}[^<>{}=;()]*)\s*</")
    attribute = re.compile(r'(?:aria-label|title|placeholder|alt|label)="([^"]*[A-Za-z][^"]*)"')
    found = []
    for path in sorted(SOURCE.rglob("*.ts*")):
        text = re.sub(r"^\s*(//|\*|/\*).*$", "", path.read_text("utf-8"), flags=re.M)
        found += [f"{path.name}: {m}" for m in CJK.findall(text)]
        if path.suffix == ".tsx":
            found += [f"{path.name}: {m}" for m in between.findall(text) + attribute.findall(text)]
    allowed = {"app.tsx: Ctrl K", "card.tsx: A", "card.tsx: R"}
    assert [one for one in found if one not in allowed] == []


def test_every_key_that_the_code_names_exists() -> None:
    used = set()
    for path in sorted(SOURCE.rglob("*.ts*")):
        used |= set(re.findall(r'\bt\("([\w.]+)"', path.read_text("utf-8")))
    assert used
    assert used <= TEXTS["en"].keys()


def test_the_lock_file_carries_no_download_address() -> None:
    lock = json.loads((ROOT / "frontend" / "package-lock.json").read_text("utf-8"))
    for name, entry in lock["packages"].items():
        assert "resolved" not in entry, name
        assert not name or "integrity" in entry, name


def test_dependencies_have_exact_versions() -> None:
    package = json.loads((ROOT / "frontend" / "package.json").read_text("utf-8"))
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())
