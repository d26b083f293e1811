"""A decision of the ledger as a report for people: what, why, what else, and what followed."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from workshop_brain.units import NS_PER_S
from workshop_brain.web.messages import candidate_name, duration, render

WIDTH = 110
SHOWN_MOVES = 40
NOTABLE_S = 60.0
KPIS = ("weighted_tardiness_s", "late_orders", "throughput_per_h", "setups")

WORDS: dict[str, tuple[str, str]] = {
    "when": ("When", "时间"),
    "trigger": ("Trigger", "触发"),
    "level": ("Level", "自主等级"),
    "line_all": ("whole plant", "全厂"),
    "gap": ("Gap to the bound", "与下界差距"),
    "why": ("Why", "原因"),
    "plans": ("Plans compared (* chosen)", "比较的方案(* 为采用)"),
    "plan": ("Plan", "方案"),
    "score": ("Score", "评分"),
    "effect": ("Effect on the plan", "对排程的影响"),
    "no_effect": ("nothing changes", "无变化"),
    "moves": ("Operations that move: {n}", "变动的工序:{n}"),
    "more": ("… and {n} more", "……另有 {n} 道"),
    "op": ("Operation", "工序"),
    "unit": ("Unit", "设备"),
    "start": ("Start", "开始"),
    "shift": ("Shift", "移动"),
    "life": ("What became of it", "后续处理"),
    "open": ("not answered yet", "尚未处理"),
    "by": ("{verdict} by {by}", "{by}:{verdict}"),
    "commands": ("Commands: {n}", "指令:{n}"),
    "job": ("Job order", "工单"),
    "command": ("Command", "指令"),
    "sent": ("Sent", "下发"),
    "outcome": ("Outcome", "结果"),
    "ended": ("Ended", "完工"),
    "pieces": ("{good} good, {scrap} scrap", "合格 {good},不良 {scrap}"),
    "late": ("{d} late", "晚 {d}"),
    "early": ("{d} early", "早 {d}"),
    "no_answer": ("no answer yet", "尚无回复"),
    # a decision's class, level and answer
    "class.plan": ("Plan", "排程"),
    "class.repair": ("Repair", "修复"),
    "class.improve": ("Improve", "优化"),
    "class.release": ("Release", "派工"),
    "level.observe": ("observe", "观察"),
    "level.advise": ("advise", "建议"),
    "level.approve": ("act after approval", "批准后执行"),
    "level.veto": ("act unless vetoed", "未否决即执行"),
    "level.report": ("act and report", "执行并报告"),
    "verdict.approved": ("approved", "已批准"),
    "verdict.rejected": ("rejected", "已驳回"),
    "verdict.vetoed": ("vetoed", "已否决"),
    "by.autonomy": ("the brain itself", "系统"),
    "by.forecast": ("the brain (only times moved)", "系统(仅时间变动)"),
    # what sets a decision off
    "event.start": ("start", "启动"),
    "event.periodic": ("periodic plan", "例行重排"),
    "event.breakdown": ("breakdown", "设备故障"),
    "event.restored": ("restored", "设备恢复"),
    "event.quality_stop": ("quality stop", "质量停机"),
    "event.operator_absent": ("operator absent", "缺操作员"),
    "event.operator_back": ("operator back", "操作员到岗"),
    "event.rush_order": ("rush order", "急单"),
    "event.pinned": ("pinned by a planner", "计划员固定"),
    "event.orders_changed": ("orders changed", "订单变更"),
    "event.late_finish": ("late finish", "完工延误"),
    "event.late_material": ("late material", "物料延误"),
    "event.inputs_restored": ("data trusted again", "数据恢复可信"),
    "event.proposal_expired": ("proposal not answered", "建议逾期未答复"),
    "event.level_lowered": ("level lowered", "等级调低"),
    "event.job_rejected": ("job order refused", "工单被拒"),
    "event.improve": ("improvement", "优化"),
    "event.release_due": ("dispatch due", "应派工"),
    # what a command asked for and what came back
    "command.dispatch": ("dispatch", "派工"),
    "command.withdraw": ("withdraw", "撤回"),
    "outcome.confirmed": ("confirmed", "已确认"),
    "outcome.rejected": ("rejected", "被拒绝"),
    "outcome.unconfirmed": ("unconfirmed", "未确认"),
    "outcome.withheld": ("withheld", "未下发"),
    "outcome.ended": ("ended", "已完工"),
    "outcome.aborted": ("aborted", "已中止"),
    # figures of a plan
    "kpi.weighted_tardiness_s": ("Weighted lateness", "加权拖期"),
    "kpi.tardiness_s": ("Lateness", "拖期"),
    "kpi.late_orders": ("Late orders", "拖期订单"),
    "kpi.makespan_s": ("Makespan", "总工期"),
    "kpi.setup_s": ("Changeover time", "换型时间"),
    "kpi.setups": ("Changeovers", "换型次数"),
    "kpi.moves": ("Moves", "变动次数"),
    "kpi.near_moves": ("Moves soon", "近期变动"),
    "kpi.shift_s": ("Shift of starts", "开工移动"),
    "kpi.throughput_per_h": ("Throughput/h", "每小时产出"),
}


class Report:
    """Writes one decision; ``text`` is what it has written."""

    def __init__(self, language: str, zone: str) -> None:
        self._language = language
        self._zone = ZoneInfo(zone)
        self._sink = StringIO()
        self._console = Console(file=self._sink, width=WIDTH, highlight=False, markup=False)

    @property
    def text(self) -> str:
        """All lines so far, without blanks at their ends."""
        return "\n".join(line.rstrip() for line in self._sink.getvalue().splitlines())

    def write(self, body: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> None:
        """Write the decision; ``answers`` are confirmations and outcomes of its jobs, in order."""
        followed: Sequence[Mapping[str, Any]] = body.get("followed", ())
        answered = [row for row in followed if row["kind"] in ("approval", "veto")]
        self._head(body)
        self._reasons(body, is_over=bool(answered))
        self._candidates(body)
        self._effect(body)
        self._moves(body)
        self._section(self._word("life"))
        for row in answered:
            self._line(f"{self._time(row['time_ns'])}  {self._answer(row)}")
        if not answered:
            self._line(self._word("open"))
        self._commands([row for row in followed if row["kind"] == "command"], answers)

    # -- parts ------------------------------------------------------------------------------

    def _head(self, body: Mapping[str, Any]) -> None:
        where = body["line"] or self._word("line_all")
        self._console.print(
            f"{body['id']}  {self._named('class', body['decision_class'])}, {where}"
        )
        self._fact("when", f"{self._time(body['time_ns'])} ({self._zone.key})")
        self._fact("trigger", self._trigger(body["trigger"]))
        self._fact("level", self._named("level", body["level"]))
        candidates, bound = body["candidates"], body["bound"]
        if candidates and bound is not None and candidates[body["chosen"]]["objective"] > 0:
            best = candidates[body["chosen"]]["objective"]
            self._fact("gap", f"{100 * (best - bound) / best:.1f} %")

    def _trigger(self, trigger: Mapping[str, Any]) -> str:
        payload = trigger.get("payload") or {}
        place = payload.get("station") or trigger.get("path") or trigger.get("of") or ""
        name = self._named("event", str(trigger.get("kind", "")))
        return f"{name}, {_tail(str(place))}" if place else name

    def _reasons(self, body: Mapping[str, Any], *, is_over: bool) -> None:
        self._section(self._word("why"))
        for reason in body["reasons"]:
            if is_over and reason["id"] in ("judge.approve", "judge.veto"):
                continue  # it waits no more
            text = render(reason["id"], reason["params"], self._language, self._zone.key)
            self._line(f"- {text}")

    def _candidates(self, body: Mapping[str, Any]) -> None:
        if not body["candidates"]:
            return
        self._section(self._word("plans"))
        table = self._table(self._word("plan"), *(self._named("kpi", k) for k in KPIS))
        table.add_column(self._word("score"), justify="right")
        for column in table.columns[1:]:
            column.justify = "right"
        for i, candidate in enumerate(body["candidates"]):
            mark = "* " if i == body["chosen"] else "  "
            kpis = candidate["kpis"]
            table.add_row(
                mark + candidate_name(candidate["name"], self._language),
                *(self._figure(k, kpis[k]) if k in kpis else "–" for k in KPIS),
                f"{candidate['objective']:,.0f}",
            )
        self._console.print(table)

    def _effect(self, body: Mapping[str, Any]) -> None:
        self._section(self._word("effect"))
        changed = {k: v for k, v in body["effect"].items() if k != "objective" and abs(v) > 1e-9}
        for name, value in changed.items():
            sign = "+" if value > 0 else ""
            self._line(f"{self._named('kpi', name)}: {sign}{self._figure(name, value)}")
        if not changed:
            self._line(self._word("no_effect"))

    def _moves(self, body: Mapping[str, Any]) -> None:
        rows = [row for row in body["changes"] if _is_notable(row)]
        self._section(self._word("moves", n=len(rows)))
        if not rows:
            return
        table = self._table(*(self._word(k) for k in ("op", "unit", "start", "shift")))
        for row in rows[:SHOWN_MOVES]:
            old, new = row.get("machine_from") or "", row.get("machine_to") or ""
            before, after = row.get("start_from_ns"), row.get("start_to_ns")
            table.add_row(
                str(row.get("op", "")),
                _tail(new) if not old or old == new else f"{_tail(old)} → {_tail(new)}",
                " → ".join(self._minute(at) for at in (before, after) if at),
                self._shift((after - before) / NS_PER_S) if before and after else "",
            )
        self._console.print(table)
        if len(rows) > SHOWN_MOVES:
            self._line(self._word("more", n=len(rows) - SHOWN_MOVES))

    def _answer(self, row: Mapping[str, Any]) -> str:
        verdict, by = self._named("verdict", row["verdict"]), self._named("by", row["by"])
        text = self._word("by", verdict=verdict, by=by)
        return f"{text}: {row['reason']}" if row.get("reason") else text

    def _commands(
        self, commands: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]
    ) -> None:
        self._section(self._word("commands", n=len(commands)))
        if not commands:
            return
        heads = ("job", "unit", "command", "sent", "outcome", "ended")
        table = self._table(*(self._word(k) for k in heads))
        for row in commands:
            mine = [a for a in answers if a["job"] == row["job"] and a["time_ns"] >= row["time_ns"]]
            back = next((a for a in mine if a["kind"] == "confirmation"), None)
            end = next((a for a in mine if a["kind"] == "outcome"), None)
            table.add_row(
                str(row["job"]),
                _tail(str(row.get("equipment", ""))),
                self._named("command", str(row.get("command", ""))),
                self._minute(row["time_ns"]),
                self._back(back),
                self._end(end) if end else "",
            )
        self._console.print(table)

    def _back(self, row: Mapping[str, Any] | None) -> str:
        if row is None:
            return self._word("no_answer")
        text = self._named("outcome", str(row["outcome"]))
        reason = row.get("reason")
        why = row.get("message") or (
            render(reason["id"], reason["params"], self._language, self._zone.key)
            if isinstance(reason, dict)
            else ""
        )
        return f"{text}: {why}" if why else text

    def _end(self, row: Mapping[str, Any]) -> str:
        parts = [self._named("outcome", str(row["state"]))]
        late = row.get("late_s")
        if late is not None and abs(late) >= NOTABLE_S:
            word = "late" if late > 0 else "early"
            parts.append(self._word(word, d=duration(abs(late), self._language)))
        if row.get("good") is not None:
            parts.append(self._word("pieces", good=row["good"], scrap=row.get("scrap") or 0))
        return ", ".join(parts)

    # -- words ------------------------------------------------------------------------------

    def _word(self, key: str, **params: Any) -> str:
        return WORDS[key][1 if self._language == "zh" else 0].format(**params)

    def _named(self, kind: str, name: str) -> str:
        pair = WORDS.get(f"{kind}.{name}")
        return name if pair is None else pair[1 if self._language == "zh" else 0]

    def _figure(self, name: str, value: float) -> str:
        if name.endswith("_s"):
            return duration(value, self._language)
        return f"{value:,.1f}".removesuffix(".0").replace("-", "−")

    def _shift(self, seconds: float) -> str:
        return ("+" if seconds > 0 else "") + duration(seconds, self._language)

    def _time(self, time_ns: int) -> str:
        return f"{datetime.fromtimestamp(time_ns // NS_PER_S, self._zone):%Y-%m-%d %H:%M:%S}"

    def _minute(self, time_ns: int) -> str:
        return f"{datetime.fromtimestamp(time_ns // NS_PER_S, self._zone):%m-%d %H:%M}"

    def _table(self, *heads: str) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for head in heads:
            table.add_column(head, overflow="fold")
        return table

    def _section(self, title: str) -> None:
        self._console.print(f"\n{title}")

    def _fact(self, key: str, text: str) -> None:
        self._line(f"{self._word(key)}: {text}")

    def _line(self, text: str) -> None:
        self._console.print(f"  {text}", soft_wrap=True)


def report(
    body: Mapping[str, Any], answers: Iterable[Mapping[str, Any]], *, language: str, zone: str
) -> str:
    """The report of a decision as ``find_decision`` gives it, in plant time of ``zone``."""
    page = Report(language, zone)
    page.write(body, list(answers))
    return page.text


def _is_notable(row: Mapping[str, Any]) -> bool:
    """Another unit or sequence, or a shift of a minute or more."""
    before, after = row.get("start_from_ns"), row.get("start_to_ns")
    if row.get("machine_from") != row.get("machine_to") or row.get("resequenced"):
        return True
    return not before or not after or abs(after - before) >= NOTABLE_S * NS_PER_S


def _tail(path: str) -> str:
    return path.rsplit("/", 1)[-1]
