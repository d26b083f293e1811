"""What ``brain connect`` found, as a report for people in English and Chinese."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

from workshop_brain.connect.discovery.propose import Companion, Discovery, Proposal
from workshop_brain.connect.discovery.snapshot import Difference

WIDTH = 110
BYTES_PER_SAMPLE = 1.26
"""Merged files and their rollups, as docs/benchmarks.md measured them on the reference plant."""
_MOST_NAMES = 25
_MOST_LISTED = 10

WORDS: dict[str, tuple[str, str]] = {
    # steps, while it works
    "step.endpoints": ("{url}: asking for its endpoints", "{url}:正在查询端点"),
    "step.security": (
        "security {security}; offered: {offered}",
        "安全策略 {security};可选:{offered}",
    ),
    "step.browsed": ("{n:,} variables in {s:.1f} s", "{s:.1f} 秒内找到 {n:,} 个变量"),
    "step.watching": (
        "watching {n:,} of {of:,} variables for {s:g} s",
        "监视 {of:,} 个变量中的 {n:,} 个,{s:g} 秒",
    ),
    "step.connecting": ("{url}: connecting", "{url}:正在连接"),
    "step.listening": ("listening for {s:g} s", "监听 {s:g} 秒"),
    "step.asking": ("{url}: asking unit {unit}", "{url}:正在查询从站 {unit}"),
    "step.reading": ("reading for {s:g} s", "读取 {s:g} 秒"),
    # a server's certificate
    "cert": (
        "The server shows this certificate ({policy}, {mode}):\n  SHA-256 {fingerprint}",
        "服务器出示的证书({policy},{mode}):\n  SHA-256 {fingerprint}",
    ),
    "cert.ask": (
        "Is it the one that the server itself displays? Trust it",
        "与服务器自身显示的一致吗?信任该证书",
    ),
    # what was found
    "found": (
        "{url}: {n:,} signals of {units:,} units, {protocol}",
        "{url}:{units:,} 台设备的 {n:,} 个信号,{protocol}",
    ),
    "fact.endpoints": (
        "Security: {chosen} (offered: {offered})",
        "安全策略:{chosen}(可选:{offered})",
    ),
    "fact.browsed": ("Browsed in {s:.1f} s", "浏览用时 {s:.1f} 秒"),
    "fact.sparkplug": (
        "Sparkplug B: groups {groups}; {nodes} edge nodes, {devices} devices, {metrics:,} metrics",
        "Sparkplug B:组 {groups};{nodes} 个边缘节点,{devices} 台设备,{metrics:,} 个指标",
    ),
    "fact.unborn": (
        "Without a birth, so without names: {nodes}",
        "未收到出生报文,缺少名称:{nodes}",
    ),
    "fact.topics": (
        "{topics:,} topics: {json:,} JSON, {values:,} single values; {rejected:,} payloads unread",
        "{topics:,} 个主题:{json:,} 个 JSON,{values:,} 个单值;{rejected:,} 条无法读取",
    ),
    "fact.modbus": (
        "Units that answer: {units}; readable registers: {registers:,}",
        "有应答的从站:{units};可读寄存器:{registers:,}",
    ),
    "fact.guessed": (
        "Modbus names nothing: types and word order are guesses. Take names, units and scales from "
        "the device's manual.",
        "Modbus 不提供名称:数据类型与字序均为推测。名称、单位和比例请查阅设备手册。",
    ),
    "fact.s7": (
        "{cpu}. Data blocks (bytes): {blocks}",
        "{cpu}。数据块(字节):{blocks}",
    ),
    "fact.s7.asked": (
        "{cpu} lists no data blocks; of the first ones these can be read (bytes): {blocks}",
        "{cpu} 不提供数据块列表;前若干块中可读的有(字节):{blocks}",
    ),
    "fact.slmp": ("{name}. Words read: {areas}", "{name}。已读取的字:{areas}"),
    "fact.unnamed": (
        "A PLC's memory names nothing: types are guesses. Take names, units and scales from its "
        "program.",
        "PLC 存储区不提供名称:数据类型均为推测。名称、单位和比例请查阅 PLC 程序。",
    ),
    "fact.mtconnect": ("MTConnect: {devices}", "MTConnect:{devices}"),
    "skipped": ("Left out: {what}", "未采集:{what}"),
    "skipped.type": ("{n} of types that are no signals", "{n} 个非信号类型"),
    "skipped.array": ("{n} arrays", "{n} 个数组"),
    "skipped.same path": ("{n} with a path that is taken", "{n} 个路径重复"),
    "skipped.diagnostics": ("{n} for diagnostics", "{n} 个诊断变量"),
    "skipped.binary": ("{n} topics in a format of their own", "{n} 个主题为私有格式"),
    "skipped.twin": (
        "{n} ranges that read as another table does",
        "{n} 段与另一张表内容相同",
    ),
    "companions": ("Recognised", "已识别"),
    "companion.machinery": (
        "OPC UA for Machinery: who the machine is, its state and mode",
        "OPC UA for Machinery:设备标识、状态与模式",
    ),
    "companion.machinery_jobs": ("Machinery Jobs: takes job orders", "Machinery Jobs:可接收工单"),
    "companion.machinery_result": (
        "Machinery Results: results of each part",
        "Machinery Results:每件结果",
    ),
    "companion.packml": ("PackML: 17 unit states and counters", "PackML:17 种设备状态与计数"),
    "companion.pack_tags": (
        "PackTags by name: unit states, modes and counters, used as they are",
        "按名称识别的 PackTags:设备状态、模式与计数,直接可用",
    ),
    "companion.machine_tool": (
        "Machine Tool / CNC: programs, counters, tools",
        "机床/数控:程序、计数、刀具",
    ),
    "companion.tightening": (
        "Tightening (IJT): joints, programs, results",
        "拧紧(IJT):螺栓连接、程序、结果",
    ),
    "companion.job_control": (
        "ISA-95 Job Control: receivers of job orders",
        "ISA-95 Job Control:工单接收器",
    ),
    "companion.robotics": ("Robotics: axes and controllers", "机器人:轴与控制器"),
    "companion.mtconnect": (
        "MTConnect: execution, mode, availability, conditions",
        "MTConnect:执行、模式、可用性、条件",
    ),
    "companion.none": ("type known, no instance found", "类型已知,未找到实例"),
    "receivers": (
        "Job orders may be sent to (receiver of [[dispatch]])",
        "可下发工单至([[dispatch]] 的 receiver)",
    ),
    "signals": ("Proposed signals, by name", "建议的信号(按名称)"),
    "live": ("Live values", "实时值"),
    "h.name": ("Name", "名称"),
    "h.path": ("Path", "路径"),
    "h.n": ("Number", "数量"),
    "h.kind": ("Kind", "类型"),
    "h.unit": ("Unit", "单位"),
    "h.rate": ("Per s", "每秒"),
    "h.sure": ("Confidence", "置信度"),
    "h.why": ("Because", "依据"),
    "h.value": ("Value", "值"),
    "more": ("… and {n:,} more", "……另有 {n:,} 个"),
    "kind.GAUGE": ("gauge", "测量值"),
    "kind.COUNTER": ("counter", "计数"),
    "kind.STATE": ("state", "状态"),
    "kind.FLAG": ("flag", "开关量"),
    "kind.TEXT": ("text", "文本"),
    # reasons
    "path.given": ("the source says where it belongs", "数据源给出了位置"),
    "path.levels": ("the names have all levels", "名称层级完整"),
    "path.companion": ("a machine of a companion type is a unit", "伴随规范的设备视为单元"),
    "path.short": ("levels are missing in the names", "名称缺少层级"),
    "path.register": ("a register has no name", "寄存器没有名称"),
    "kind.text": ("data type", "数据类型"),
    "kind.flag": ("data type", "数据类型"),
    "kind.states": ("the source names its states", "数据源给出了状态名"),
    "kind.name": ("known name", "已知名称"),
    "kind.name_and_rises": ("known name, and it only rises", "已知名称且只增不减"),
    "kind.state_word": ("a word of the name", "名称中的词"),
    "kind.rises": ("it only rises", "只增不减"),
    "kind.integer": ("a whole number, nothing more is known", "整数,其余未知"),
    "kind.real": ("a number with decimals", "小数"),
    "kind.real_moves": ("a number with decimals that moves", "变动的小数"),
    "kind.register": ("guessed from the bits", "由位模式推测"),
    "kind.declared": ("the source declares it", "数据源已声明"),
    # how much
    "estimate": ("How much", "数据量"),
    "estimate.line": (
        "{rate:,.0f} samples/s x 86,400 s x {bytes} bytes = {gb:.3g} GB a day "
        "(watched {watched:,} of {n:,} signals for {seconds:.0f} s)",
        "{rate:,.0f} 样本/秒 x 86,400 秒 x {bytes} 字节 = 每天 {gb:.3g} GB"
        "(监视 {n:,} 个信号中的 {watched:,} 个,{seconds:.0f} 秒)",
    ),
    # since the last look
    "diff": ("Since the last look", "与上次相比"),
    "diff.none": ("nothing is different", "没有变化"),
    "diff.new": ("New: {n:,}", "新增:{n:,}"),
    "diff.gone": ("Gone: {n:,}", "消失:{n:,}"),
    "diff.changed": ("Changed: {n:,}", "变更:{n:,}"),
    # the plant file
    "file.new": ("To be written to {file}", "将写入 {file}"),
    "file.add": ("To be added to source {id!r} of {file}", "将加入 {file} 的数据源 {id!r}"),
    "file.same": (
        "{file} reads this address already as {id!r}; nothing to add",
        "{file} 已包含该地址({id!r}),无需添加",
    ),
    "file.show": (
        "For the plant file (-o plant.toml writes it)",
        "工厂文件内容(-o plant.toml 可写入)",
    ),
    "file.stays": (
        "{key} stays {was} as it stands there; proposed: {now}",
        "{key} 保持文件中的 {was};建议值:{now}",
    ),
    "file.ask": ("Write it", "写入"),
    "file.written": (
        "Written: {file}. Next: brain up {file}",
        "已写入 {file}。下一步:brain up {file}",
    ),
    "file.not": (
        "Nothing was written; --yes writes without asking.",
        "未写入;--yes 可免询问写入。",
    ),
}


def word(key: str, language: str, /, **params: Any) -> str:
    """A text of the table in a language; the key itself when it is not there."""
    pair = WORDS.get(key)
    return key if pair is None else pair[1 if language == "zh" else 0].format(**params)


@dataclass(frozen=True, slots=True)
class Estimate:
    """How much a source brings: samples a second, and gigabytes a day on disk."""

    samples_per_s: float
    gb_per_day: float


def estimate(samples_per_s: float) -> Estimate:
    """GB a day = samples/s x 86,400 s x BYTES_PER_SAMPLE / 10**9.

    >>> round(estimate(48_000).gb_per_day, 2)
    5.23
    """
    return Estimate(samples_per_s, samples_per_s * 86_400 * BYTES_PER_SAMPLE / 1e9)


def report(found: Discovery, difference: Difference | None, *, language: str) -> str:
    """Everything about one discovery but the plant file."""
    page = _Page(language)
    page.head(found)
    page.companions(found)
    page.signals(found.proposals)
    page.live(found.live)
    page.estimate(found)
    if difference is not None:
        page.difference(difference)
    return page.text


def live_table(rows: Mapping[str, tuple[str, float]], language: str) -> Table:
    """Path, value and rate of the liveliest signals."""
    table = _table(language, "path", "value", "rate")
    for path, (value, rate) in rows.items():
        table.add_row(path, value, f"{rate:.2g}")
    return table


def _table(language: str, *heads: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        right = head in ("n", "rate", "sure")
        table.add_column(
            word(f"h.{head}", language), justify="right" if right else "left", overflow="fold"
        )
    return table


class _Page:
    """Writes one report."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._sink = StringIO()
        self._console = Console(file=self._sink, width=WIDTH, highlight=False, markup=False)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._sink.getvalue().splitlines())

    def head(self, found: Discovery) -> None:
        units = len({p.signal.unit_path for p in found.proposals})
        self._console.print(
            self._word(
                "found", url=found.url, n=len(found.proposals), units=units, protocol=found.protocol
            ),
            soft_wrap=True,
        )
        for id, params in found.facts:
            self._line(self._word(f"fact.{id}", **params))
        if found.skipped:
            what = ", ".join(
                self._word(f"skipped.{reason}", n=n) for reason, n in found.skipped.items()
            )
            self._line(self._word("skipped", what=what))

    def companions(self, found: Discovery) -> None:
        if not found.companions:
            return
        self._section("companions")
        for companion in found.companions:
            self._line(f"{self._word(f'companion.{companion.id}')} ({self._types(companion)})")
        if found.receivers:
            self._line(f"{self._word('receivers')}:")
            self._list(found.receivers)

    def _types(self, companion: Companion) -> str:
        if not companion.types:
            return self._word("companion.none")
        return ", ".join(f"{len(where)} x {name}" for name, where in companion.types.items())

    def signals(self, proposals: Sequence[Proposal]) -> None:
        groups: dict[tuple[str, str, str], list[Proposal]] = defaultdict(list)
        for p in proposals:
            groups[p.signal.name, p.signal.kind.name, p.signal.unit].append(p)
        ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
        self._section("signals")
        table = _table(self._language, "name", "n", "kind", "unit", "rate", "sure", "why")
        for (name, kind, unit), rows in ordered[:_MOST_NAMES]:
            least = min(rows, key=lambda p: p.confidence)
            rates = [p.rate_hz for p in rows if not math.isnan(p.rate_hz)]
            rate = f"{sum(rates) / len(rates):.2g}" if rates else "–"
            table.add_row(
                name, f"{len(rows):,}", self._word(f"kind.{kind}"), unit, rate,
                f"{least.confidence:.2f}", self._why(least),
            )  # fmt: skip
        self._console.print(table)
        if len(ordered) > _MOST_NAMES:
            self._line(self._word("more", n=len(ordered) - _MOST_NAMES))

    def _why(self, proposal: Proposal) -> str:
        path, kind = proposal.guesses["path"], proposal.guesses["kind"]
        both = [path, kind] if path.confidence <= kind.confidence else [kind, path]
        return "; ".join(self._word(guess.reason) for guess in both)

    def live(self, rows: Mapping[str, tuple[str, float]]) -> None:
        if rows:
            self._section("live")
            self._console.print(live_table(rows, self._language))

    def estimate(self, found: Discovery) -> None:
        self._section("estimate")
        amount = estimate(found.samples_per_s)
        self._line(
            self._word(
                "estimate.line",
                rate=amount.samples_per_s,
                bytes=BYTES_PER_SAMPLE,
                gb=amount.gb_per_day,
                watched=found.watched,
                n=len(found.proposals),
                seconds=found.seconds,
            )
        )

    def difference(self, difference: Difference) -> None:
        self._section("diff")
        if not difference:
            self._line(self._word("diff.none"))
        for key, paths in (("new", difference.new), ("gone", difference.gone)):
            if paths:
                self._line(self._word(f"diff.{key}", n=len(paths)))
                self._list(paths)
        if difference.changed:
            self._line(self._word("diff.changed", n=len(difference.changed)))
            self._list(
                [
                    f"{path}: " + ", ".join(f"{k} {was} → {now}" for k, (was, now) in keys.items())
                    for path, keys in difference.changed
                ]
            )

    def _list(self, rows: Sequence[str]) -> None:
        for row in rows[:_MOST_LISTED]:
            self._line(f"  {row}")
        if len(rows) > _MOST_LISTED:
            self._line(f"  {self._word('more', n=len(rows) - _MOST_LISTED)}")

    def _section(self, key: str) -> None:
        self._console.print(f"\n{self._word(key)}")

    def _line(self, text: str) -> None:
        self._console.print(f"  {text}", soft_wrap=True)

    def _word(self, key: str, **params: Any) -> str:
        return word(key, self._language, **params)
