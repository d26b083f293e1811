"""Texts of the schedule's messages: id -> (English, Chinese), with ``{param}`` placeholders.

The edge formats parameters by their names: ``*_ns`` instants in plant time, ``*_s`` durations in
seconds, ``*_percent`` numbers; everything else as it is.
"""

MESSAGES: dict[str, tuple[str, str]] = {
    "schedule.placed": (
        "{op} is planned on {machine} from {start_ns} to {end_ns}.",
        "{op} 计划在 {machine} 上加工，{start_ns} 至 {end_ns}。",
    ),
    "schedule.unplanned": ("{op} is not planned.", "{op} 未排入计划。"),
    "schedule.running": (
        "{op} is running on {machine} since {start_ns}.",
        "{op} 自 {start_ns} 起正在 {machine} 上加工。",
    ),
    "schedule.locked": (
        "{op} is in the frozen zone on {machine}; it may not move.",
        "{op} 处于 {machine} 的冻结区内，不可移动。",
    ),
    "schedule.done": ("{op} is finished.", "{op} 已完工。"),
    "schedule.waits_machine": (
        "{op} waits for {machine}, which works on {other} until {until_ns}.",
        "{op} 等待 {machine}：该设备加工 {other} 至 {until_ns}。",
    ),
    "schedule.waits_setup": (
        "{op} waits for the changeover on {machine} after {other}: {setup_s}.",
        "{op} 等待 {machine} 在 {other} 之后的换型：{setup_s}。",
    ),
    "schedule.waits_material": (
        "{op} waits for the pieces of {other}, there at {until_ns}.",
        "{op} 等待 {other} 的工件，{until_ns} 到达。",
    ),
    "schedule.waits_release": (
        "{op} waits for its release or material at {until_ns}.",
        "{op} 等待下达或物料，{until_ns}。",
    ),
    "schedule.waits_open": (
        "{op} waits until {machine} works again at {until_ns} (shift, stop or breakdown).",
        "{op} 等待 {machine} 于 {until_ns} 恢复工作（班次、停机或故障）。",
    ),
    "schedule.waits_upkeep": (
        "{op} waits for the maintenance {other} on {machine}, done at {until_ns}.",
        "{op} 等待 {machine} 的维护 {other}，{until_ns} 结束。",
    ),
    "schedule.waits_tool": (
        "{op} waits until {until_ns} for {tool}, which {other} has.",
        "{op} 等待 {tool} 至 {until_ns}：正由 {other} 使用。",
    ),
    "schedule.waits_tool_away": (
        "{op} waits for {tool}, which cannot be had before {until_ns}.",
        "{op} 等待 {tool}：{until_ns} 之前不可用。",
    ),
    "schedule.waits_person": (
        "{op} waits until {until_ns} for somebody with skill {person}, who is at {other}.",
        "{op} 等待具备技能 {person} 的人员至 {until_ns}：正在做 {other}。",
    ),
    "schedule.waits_person_away": (
        "{op} waits for somebody with skill {person}; nobody more is on shift before {until_ns}.",
        "{op} 等待具备技能 {person} 的人员：{until_ns} 之前无人当班。",
    ),
    "schedule.waits_setup_tool": (
        "The changeover before {op} waits until {until_ns} for {tool}, which {other} has.",
        "{op} 之前的换型等待 {tool} 至 {until_ns}：正由 {other} 使用。",
    ),
    "schedule.waits_setup_tool_away": (
        "The changeover before {op} waits for {tool}, which cannot be had before {until_ns}.",
        "{op} 之前的换型等待 {tool}：{until_ns} 之前不可用。",
    ),
    "schedule.waits_setup_person": (
        "The changeover before {op} waits until {until_ns} for somebody with skill {person}, who "
        "is at {other}.",
        "{op} 之前的换型等待具备技能 {person} 的人员至 {until_ns}：正在做 {other}。",
    ),
    "schedule.waits_setup_person_away": (
        "The changeover before {op} waits for somebody with skill {person}; nobody more is on "
        "shift before {until_ns}.",
        "{op} 之前的换型等待具备技能 {person} 的人员：{until_ns} 之前无人当班。",
    ),
    "schedule.waits_blocked": (
        "{op} waits for {machine}, where the lot of {lot} stands until {until_ns}: {buffer} has no "
        "place before {other} starts.",
        "{op} 等待 {machine}：{lot} 的批次停留至 {until_ns}，{other} 开始前缓存 {buffer} 无空位。",
    ),
    "schedule.waits_lag": (
        "{op} waits so that {other}, at {until_ns}, follows within {lag_s}.",
        "{op} 推迟开始，使 {other}（{until_ns}）在其后 {lag_s} 内开始。",
    ),
    "schedule.waits_load": (
        "{op} waits until {until_ns} for {other}, with which it runs on {machine} as one load.",
        "{op} 等待 {other} 至 {until_ns}，二者在 {machine} 上同炉加工。",
    ),
    "schedule.waits_power": (
        "{op} waits for cheaper power at {until_ns} ({price} instead of {price_before} per kWh).",
        "{op} 等待 {until_ns} 起的低价电（每千瓦时 {price}，此前 {price_before}）。",
    ),
    "schedule.waits_kept": (
        "Nothing keeps {op} from starting before {until_ns}; the plan has it then because of what "
        "is tied to it or comes after.",
        "{op} 可早于 {until_ns} 开始；因与其相关或其后的工序，计划安排在此时。",
    ),
    "schedule.waits_nothing": (
        "{op} starts as early as possible.",
        "{op} 已尽早开始。",
    ),
    "schedule.job_late": (
        "Order {job} will be {late_s} late.",
        "订单 {job} 将延误 {late_s}。",
    ),
    "schedule.job_in_time": (
        "Order {job} will be ready {slack_s} before its due date.",
        "订单 {job} 将提前 {slack_s} 完成。",
    ),
    "schedule.alternative": (
        "On {machine} instead: weighted tardiness {tardiness_s} more, changeovers {setup_s} more.",
        "若改到 {machine}：加权延误增加 {tardiness_s}，换型增加 {setup_s}。",
    ),
    "schedule.why_not_same": (
        "{op} is planned on {machine} already.",
        "{op} 已计划在 {machine} 上。",
    ),
    "schedule.why_not_fixed": (
        "{op} has started or is frozen; it stays on {machine}.",
        "{op} 已开工或已冻结，留在 {machine}。",
    ),
    "schedule.why_not_not_allowed": (
        "{machine} may not run {op}: its program is not among the unit's families.",
        "{machine} 不能加工 {op}：其程序不属于该设备的换型族。",
    ),
    "schedule.why_not_worse": (
        "Forced onto {machine} and searched anew, weighted tardiness grows by {tardiness_s}, "
        "changeovers by {setup_s}, and {changes} operations move.",
        "强制改到 {machine} 并重新求解：加权延误增加 {tardiness_s}，换型增加 {setup_s}，"
        "{changes} 道工序变动。",
    ),
    "schedule.why_not_better": (
        "Forced onto {machine} and searched anew, the plan gets better: weighted tardiness by "
        "{tardiness_s}, changeovers by {setup_s}.",
        "强制改到 {machine} 并重新求解，计划更优：加权延误变化 {tardiness_s}，换型变化 {setup_s}。",
    ),
    "schedule.why_not_later": (
        "Order {job} would finish {late_s} later.",
        "订单 {job} 将推迟 {late_s} 完成。",
    ),
    "schedule.then_same": (
        "{op} is planned on {machine} then already, at {start_ns}.",
        "{op} 本来就计划于 {start_ns} 在 {machine} 上开始。",
    ),
    "schedule.then_never": (
        "No plan can: even if no machine were ever busy, {op} could not start before {until_ns}.",
        "任何排程都做不到：即使设备始终空闲，{op} 也不能早于 {until_ns} 开始。",
    ),
    "schedule.then_before": (
        "{other} is planned on {machine} at {start_ns}, before {op} would end at {until_ns}.",
        "{other} 计划于 {start_ns} 在 {machine} 上开始，早于 {op} 的结束时间 {until_ns}。",
    ),
    "schedule.then_cost": (
        "With {op} on {machine} at {start_ns} and the rest searched anew: weighted tardiness "
        "{tardiness_s} more, changeovers {setup_s} more, {changes} operations move.",
        "若 {op} 于 {start_ns} 在 {machine} 上开始并重新求解其余部分：加权延误增加 "
        "{tardiness_s}，换型增加 {setup_s}，{changes} 道工序变动。",
    ),
    "schedule.then_not_found": (
        "No plan was found in which {op} starts on {machine} at {start_ns}.",
        "未找到 {op} 于 {start_ns} 在 {machine} 上开始的排程。",
    ),
    "schedule.then_earliest": (
        "The earliest start that was found is {until_ns}, when it and all that it needs go first.",
        "让它及其所需工序全部优先时，求得的最早开始时间为 {until_ns}。",
    ),
    "schedule.then_earliest_already": (
        "No plan was found in which {op} starts on {machine} earlier than {start_ns}.",
        "未找到 {op} 在 {machine} 上早于 {start_ns} 开始的排程。",
    ),
    "schedule.pin_frozen": (
        "{op} cannot start then: the frozen zone lasts until {until_ns}.",
        "{op} 不能在该时间开始：冻结区持续到 {until_ns}。",
    ),
    "schedule.pin_earliest": (
        "{op} cannot start on {machine} near that time; the plan found has it there at {until_ns}.",
        "{op} 无法在该时间于 {machine} 开始；求得的排程中为 {until_ns}。",
    ),
    "schedule.pin_conflict": (
        "{op} can be kept there alone, but not together with these {n} older pins.",
        "单独固定 {op} 可行，但与以下 {n} 个已有固定冲突。",
    ),
    "schedule.pin_no_plan": (
        "No plan was found with {op} on {machine}.",
        "未找到 {op} 在 {machine} 上的可行排程。",
    ),
    "schedule.pinned": (
        "Pinned by {by}: {op} on {machine}, {start_ns}. Cost shown before: {cost_s} weighted.",
        "由 {by} 固定：{op} 在 {machine}，{start_ns}。确认前所示代价：加权 {cost_s}。",
    ),
    "schedule.reason_breakdown": (
        "{machine} is down, back expected at {until_ns}.",
        "{machine} 故障，预计 {until_ns} 恢复。",
    ),
    "schedule.reason_quality_stop": (
        "{machine} is stopped for quality until {until_ns}.",
        "{machine} 因质量停机至 {until_ns}。",
    ),
    "schedule.reason_operator_absent": (
        "{machine} has no operator until {until_ns}.",
        "{machine} 无操作员，直至 {until_ns}。",
    ),
    "schedule.reason_restored": ("{machine} works again.", "{machine} 已恢复工作。"),
    "schedule.reason_operator_back": (
        "{machine} has its operator back.",
        "{machine} 的操作员已返回。",
    ),
    "schedule.reason_rush_order": ("Rush order {job} came in.", "插入急单 {job}。"),
    "schedule.reason_orders_changed": ("Orders have changed.", "订单有变更。"),
    "schedule.reason_late_material": (
        "Material of {job} comes late, at {until_ns}.",
        "{job} 的物料延迟至 {until_ns}。",
    ),
    "schedule.reason_late_finish": ("{job} finishes late.", "{job} 将晚完工。"),
    "schedule.reason_update": (
        "The plan was brought up to date.",
        "计划已按现场状态更新。",
    ),
    "schedule.left_deadline": (
        "{job} is not planned: {op} cannot be finished by its deadline {until_ns}.",
        "{job} 未排入：{op} 无法在截止时间 {until_ns} 前完成。",
    ),
    "schedule.left_max_lag": (
        "{job} is not planned: {op} cannot start within {lag_s} after {other}.",
        "{job} 未排入：{op} 无法在 {other} 之后 {lag_s} 内开始。",
    ),
    "schedule.left_no_place": (
        "{job} is not planned: {op} finds no time in which all that it needs is free: {needs}.",
        "{job} 未排入：{op} 所需的 {needs} 始终无法同时空闲。",
    ),
    "schedule.left_conflict": (
        "{job} is not planned: not all can be kept together with {others}, and it weighs least "
        "({weight}).",
        "{job} 未排入：无法与 {others} 同时满足，且其权重最低（{weight}）。",
    ),
    "schedule.left_no_machine": (
        "{job} is not planned: {op} can be done on {machine} only, which does not come back.",
        "{job} 未排入：{op} 只能在 {machine} 上加工，而该设备不再恢复。",
    ),
    "schedule.left_lost": (
        "{job} is not planned: {op} stands on {machine}, which does not come back.",
        "{job} 未排入：{op} 停留在不再恢复的 {machine} 上。",
    ),
    "schedule.left_material": (
        "{job} is not planned: the material of {op} does not come.",
        "{job} 未排入：{op} 的物料不会到达。",
    ),
    "schedule.left_needs": (
        "{job} is not planned: {op} needs the pieces of {other}, which is left out.",
        "{job} 未排入：{op} 需要 {other} 的工件，而后者未排入。",
    ),
    "schedule.reason_chosen": (
        "Chosen: {candidate}, cost {objective}.",
        "选用方案：{candidate}，代价 {objective}。",
    ),
    "schedule.reason_beats": (
        "It beats {candidate} by {better_percent} %.",
        "优于 {candidate} {better_percent} %。",
    ),
    "schedule.reason_changes": (
        "{moves} operations change machine, {shifts} change their start.",
        "{moves} 道工序更换设备，{shifts} 道工序调整开始时间。",
    ),
    "schedule.candidate.right_shift": ("same sequences, later times", "保持顺序，顺延"),
    "schedule.candidate.reroute": ("only affected work moves", "仅移动受影响的工序"),
    "schedule.candidate.part": ("the largest part that can be done", "可完成的最大部分"),
    "schedule.candidate.redispatch": ("all anew by the rule", "按规则全部重排"),
    "schedule.candidate.steady": (
        "all anew by the rule, but what starts soon keeps its machine",
        "按规则全部重排，但近期工序不换机",
    ),
    "schedule.candidate.family_first": ("same family first", "同族优先"),
    "schedule.candidate.due_first": ("earliest due date first", "交期优先"),
    "schedule.candidate.search": ("improved by search", "搜索改进"),
}
"""All ids that this room may emit."""
