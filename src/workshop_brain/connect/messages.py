"""What is said of samples that are not taken: English and Chinese."""

MESSAGES: dict[str, tuple[str, str]] = {
    "samples.no_time": (
        "is not a time; send time_ns, time_ms, or ISO 8601 with an offset",
        "不是有效时间;请使用 time_ns、time_ms 或带时区的 ISO 8601",
    ),
    "samples.file_time": ("{why}", "{why}"),
    "samples.far_time": (
        "is not between the year 2000 and one hour from now; set the sender's clock",
        "不在 2000 年至当前时间后一小时之内;请校准发送端时钟",
    ),
    "samples.no_value": (
        "is not a number, true, false or a text",
        "不是数字、布尔值或文本",
    ),
    "samples.no_number": (
        "is not a number, but the other values of this signal are",
        "不是数字,而该信号的其他值是数字",
    ),
    "samples.infinite": (
        "is not finite; leave the value out when there is none",
        "不是有限数;没有数值时请留空",
    ),
    "samples.long_text": (
        "is longer than {most} characters",
        "超过 {most} 个字符",
    ),
    "samples.bad_quality": (
        "is no quality; send good, uncertain, bad or 0 to 31",
        "不是有效的质量;请使用 good、uncertain、bad 或 0 至 31",
    ),
    "samples.bad_path": (
        "is no signal name of 1 to {most} characters",
        "不是 1 至 {most} 个字符的信号名",
    ),
    "samples.foreign_path": (
        "belongs to source {owner}; push it under a path of your own",
        "属于数据源 {owner};请使用自己的路径",
    ),
    "samples.is_text": (
        "is a number, but this signal holds texts; use another path",
        "是数字,而该信号保存文本;请使用其他路径",
    ),
    "samples.is_number": (
        "is a text, but this signal holds numbers; use another path",
        "是文本,而该信号保存数字;请使用其他路径",
    ),
    "samples.too_many": (
        "would be a new signal beyond the {most} that may be added",
        "新增信号数超过上限 {most}",
    ),
    "samples.missing": (
        "the row has fewer cells than the header",
        "该行的单元格少于表头",
    ),
}  # fmt: skip
