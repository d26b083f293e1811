"""Message ids with parameters, rendered in English or Chinese at the edge.

Every room owns its texts (``<room>/messages.py: MESSAGES: dict[str, tuple[str, str]]``, English
and Chinese with ``{param}`` placeholders); here they are put together and rendered.
"""

import importlib
import math
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

_PATH = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+){5}")
ROOMS = ("schedule", "autonomy", "dispatch", "production", "connect")
LANGUAGES = ("en", "zh")

WEB: dict[str, tuple[str, str]] = {
    "web.sign_in_needed": ("Please sign in.", "请先登录。"),
    "web.wrong_password": ("User name or password is wrong.", "用户名或密码错误。"),
    "web.too_many_tries": (
        "Too many failed sign-ins. Try again in {seconds} s.",
        "登录失败次数过多,请在 {seconds} 秒后重试。",
    ),
    "web.bad_link": (
        "This sign-in link is used up or expired. Ask an administrator for a new one, or restart "
        "the brain while no password is set.",
        "此登录链接已使用或已过期。请向管理员索取新链接,或在尚未设置密码时重启系统。",
    ),
    "web.role_needed": (
        "This needs the role {needed}; you are {role}.",
        "此操作需要 {needed} 角色,您当前的角色是 {role}。",
    ),
    "web.foreign_origin": (
        "The request comes from another site ({origin}) and was refused.",
        "请求来自其他网站({origin}),已拒绝。",
    ),
    "web.foreign_host": (
        "Host name {host} is not served here; open the address that the brain printed.",
        "此处不提供主机名 {host},请使用系统启动时显示的地址。",
    ),
    "web.not_found": ("There is no {what} {id}.", "不存在{what} {id}。"),
    "web.no_route": ("There is nothing at {path}.", "路径 {path} 不存在。"),
    "web.method": ("{method} is not possible here.", "此处不能使用 {method}。"),
    "web.bad_value": ("{field}: {reason}; got {value}.", "{field}:{reason};收到 {value}。"),
    "web.refused": ("{reason}", "{reason}"),
    "web.disk": ("The history cannot be read: {reason}", "无法读取历史数据：{reason}"),
    "web.missing": (
        "{field} is missing: it must be given",
        "缺少 {field}：必须给出",
    ),
    "web.too_large": (
        "The file has {size} bytes; at most {limit} are taken.",
        "文件大小为 {size} 字节,最多允许 {limit} 字节。",
    ),
    "web.busy": (
        "Too many requests of this kind at once. Try again in a moment.",
        "同类请求过多,请稍后重试。",
    ),
    "web.not_durable": (
        "It cannot be made durable now, so nothing is acknowledged: {reason}. Send it again.",
        "暂时无法持久保存,未确认任何数据:{reason}。请重新发送相同内容。",
    ),
    "web.last_admin": (
        "{user} is the last administrator and must stay one.",
        "{user} 是最后一名管理员,不能更改。",
    ),
    "web.password_needed": (
        "{user} is new and needs a password; the link still works: {link}",
        "{user} 是新用户,需要设置密码;链接仍然有效:{link}",
    ),
    "web.password_short": (
        "A password needs at least {least} characters.",
        "密码至少需要 {least} 个字符。",
    ),
    "web.user_exists": ("There is already a user {user}.", "用户 {user} 已存在。"),
    "web.internal": (
        "Something went wrong inside; the log has it under {reference}.",
        "系统内部错误,日志编号 {reference}。",
    ),
    "alarm.breakdown": ("{unit} has broken down.", "{unit} 发生故障。"),
    "alarm.quality_stop": ("{unit} stands for a quality problem.", "{unit} 因质量问题停机。"),
    "alarm.no_operator": ("{unit} has no operator.", "{unit} 缺少操作员。"),
    "alarm.code": ("{unit} reports alarm {code}.", "{unit} 报警代码 {code}。"),
    "alarm.source_lost": (
        "Source {source} does not answer; its data is stale.",
        "数据源 {source} 无响应,其数据已过时。",
    ),
    "web.no_mcp": (
        "The MCP server needs the extra mcp: pip install workshop-brain[mcp].",
        "MCP 服务需要安装扩展 mcp:pip install workshop-brain[mcp]。",
    ),
    "web.no_front_end": (
        "The screens were not built. Run make build (needs node), or install a released wheel. "
        "The API is at /api/v1.",
        "界面尚未构建。请运行 make build(需要 node),或安装发布的 wheel。API 位于 /api/v1。",
    ),
}


CANDIDATES: dict[str, tuple[str, str]] = {
    "right_shift": ("right shift", "顺延"),
    "reroute": ("reroute", "改道"),
    "redispatch": ("re-dispatch", "重新派工"),
    "steady": ("re-dispatch, machines kept", "重新派工，近期不换机"),
    "family_first": ("family first", "同族优先"),
    "due_first": ("due date first", "交期优先"),
    "improved": ("improved", "优化"),
    "search": ("search", "搜索"),
    "as_it_was": ("as it was", "维持原排程"),
    "atcs": ("due date and changeover", "交期与换型兼顾"),
    "foreman": ("as a foreman would", "班组长规则"),
    "edd": ("earliest due date", "最早交期优先"),
    "spt": ("shortest first", "最短工时优先"),
    "fifo": ("first in, first out", "先到先做"),
}
"""Names of candidate plans, which texts carry as a parameter; ``redispatch_2`` is numbered and
``right_shift+search`` is one made better by the other."""
_CANDIDATE_PARAMS = ("candidate", "rival")
THINGS: dict[str, str] = {
    "signal": "信号",
    "decision": "决策",
    "part": "工件",
    "curve": "曲线",
    "station": "工位",
    "line": "产线",
    "alarm": "报警",
    "user": "用户",
    "order": "订单",
    "machine": "设备",
    "op": "工序",
    "operation": "工序",
    "declared time": "计划时间",
    "class": "决策类别",
    "job": "工单",
    "tag": "信号",
    "plan": "排程",
}
"""What ``web.not_found`` speaks of, in Chinese."""
_NUMBERED = re.compile(r"(\w+?)(?:_(\d+))?")


@cache
def catalogue() -> dict[str, tuple[str, str]]:
    """All message texts of all rooms; a room without messages adds none."""
    texts = dict(WEB)
    for room in ROOMS:
        name = f"workshop_brain.{room}.messages"
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            continue
        texts.update(module.MESSAGES)
    return texts


def render(id: str, params: Mapping[str, Any], language: str, zone: str = "UTC") -> str:
    """The text of a message; an unknown id or a missing parameter is shown, never hidden.

    Parameters that end in ``_ns`` or ``_ms`` are instants and are shown as local time of ``zone``;
    a text may name either. Those that end in ``_s``, ``_min`` or ``_h`` are durations and carry
    their unit. Paths are shown by their last part, names ``{en, zh}`` in the reader's language.

    >>> render("web.not_found", {"what": "decision", "id": "d7"}, "en")
    'There is no decision d7.'
    >>> render("no.such", {"a": 1}, "en")
    'no.such (a=1)'
    """
    params = _readable(params, language, zone)
    pair = catalogue().get(id)
    if pair is None:
        details = ", ".join(f"{k}={_shown(v)}" for k, v in params.items())
        return f"{id} ({details})" if details else id
    shown = _Params({k: _Value(v) for k, v in params.items()})
    return pair[1 if language == "zh" else 0].format_map(shown)


def with_texts(value: Any, language: str, zone: str = "UTC") -> Any:
    """A JSON-able value in which every ``{id, params}`` also carries its rendered ``text``."""
    if isinstance(value, dict):
        out = {key: with_texts(item, language, zone) for key, item in value.items()}
        if isinstance(value.get("params"), dict) and isinstance(value.get("id"), str):
            out.setdefault("text", render(value["id"], value["params"], language, zone))
        return out
    if isinstance(value, (list, tuple)):
        return [with_texts(item, language, zone) for item in value]
    return value


def language_of(accept: str, default: str = "en") -> str:
    """``en`` or ``zh`` from an Accept-Language header.

    >>> language_of("zh-CN,zh;q=0.9,en;q=0.8"), language_of("de, en;q=0.5"), language_of("")
    ('zh', 'en', 'en')
    """
    best, best_weight = default, 0.0
    for part in accept.split(","):
        tag, _, rest = part.strip().partition(";")
        name = tag.strip().lower().split("-")[0]
        if name not in LANGUAGES:
            continue
        weight = 1.0
        if rest.strip().startswith("q="):
            try:
                weight = float(rest.strip()[2:])
            except ValueError:
                weight = 0.0
        if weight > best_weight:
            best, best_weight = name, weight
    return best


def candidate_name(name: str, language: str) -> str:
    """A candidate plan's name in the reader's language; other words stay.

    >>> candidate_name("redispatch_2", "en"), candidate_name("st02", "en")
    ('re-dispatch 2', 'st02')
    >>> candidate_name("right_shift+search", "zh")
    '顺延 + 搜索'
    """
    return " + ".join(_candidate_part(part, language) for part in name.split("+"))


def _candidate_part(name: str, language: str) -> str:
    match = _NUMBERED.fullmatch(name)
    if match is None or match[1] not in CANDIDATES:
        return name
    word = CANDIDATES[match[1]][1 if language == "zh" else 0]
    return f"{word} {match[2]}" if match[2] else word


def duration(seconds: float, language: str) -> str:
    """Seconds as people say them, in the form that the screens use; the sign is kept.

    >>> [duration(s, "en") for s in (48, -720, 11_100, 187_200)]
    ['48 s', '−12 min', '3 h 05', '2 d 4 h']
    >>> duration(61_176, "zh")
    '17 小时 00 分'
    """
    chinese = language == "zh"
    size = abs(seconds)
    sign = "−" if seconds < 0 and size >= 0.5 else ""
    if size < 99.5:
        return f"{sign}{round(size)} {'秒' if chinese else 's'}"
    minutes = math.floor(size / 60 + 0.5)
    if minutes < 100:
        return f"{sign}{minutes} {'分钟' if chinese else 'min'}"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{sign}{hours} 小时 {rest:02d} 分" if chinese else f"{sign}{hours} h {rest:02d}"
    days, left = divmod(hours, 24)
    return f"{sign}{days} 天 {left} 小时" if chinese else f"{sign}{days} d {left} h"


def day_time(moment: datetime, language: str) -> str:
    """Day and time of day in the form that the screens use; the month is a word.

    >>> day_time(datetime(2026, 3, 2, 8, 5), "en"), day_time(datetime(2026, 3, 2, 8, 5), "zh")
    ('2 Mar 08:05', '3月2日 08:05')
    """
    if language == "zh":
        return f"{moment.month}月{moment.day}日 {moment:%H:%M}"
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment:%H:%M}"


_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_SECONDS = {"_s": 1.0, "_min": 60.0, "_h": 3600.0}


def _readable(params: Mapping[str, Any], language: str, zone: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in params.items():
        stem, unit = key[:-3], key[-3:]
        is_number = isinstance(value, (int, float)) and value == value
        factor = _SECONDS.get(key[key.rfind("_") :]) if is_number and "_" in key else None
        if unit in ("_ns", "_ms") and is_number:
            seconds = value / (1e9 if unit == "_ns" else 1e3)
            text = day_time(datetime.fromtimestamp(seconds, ZoneInfo(zone)), language)
            out[stem + "_ns"] = out[stem + "_ms"] = text
        elif factor is not None and not math.isinf(value):
            out[key] = duration(value * factor, language)
        elif isinstance(value, Mapping):
            out[key] = value.get(language) or value.get("en") or next(iter(value.values()), "")
        elif isinstance(value, str) and _PATH.fullmatch(value):
            out[key] = value.rsplit("/", 1)[1]
        elif key in _CANDIDATE_PARAMS:
            out[key] = candidate_name(str(value), language)
        elif key == "what" and language == "zh":
            out[key] = THINGS.get(str(value), value)
        else:
            out[key] = value
    return out


class _Params(dict[str, "_Value"]):
    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


class _Value:
    """A parameter that formats itself readably, and by the text's own format when it has one."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __format__(self, spec: str) -> str:
        if spec and isinstance(self._value, (int, float)):
            return format(self._value, spec)
        return _shown(self._value)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}".removesuffix(".0")
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(item) for item in value)
    return str(value)
