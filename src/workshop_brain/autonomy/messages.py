"""Texts of this room's message ids: id -> (English, Chinese); parameters stand in braces."""

MESSAGES: dict[str, tuple[str, str]] = {
    # what set a decision off
    "trigger.start": (
        "The brain started and planned from what is running.",
        "系统启动，按现场实况编制排程。",
    ),
    "trigger.periodic": (
        "Planned again as every {minutes} minutes.",
        "每 {minutes} 分钟例行重排。",
    ),
    "trigger.breakdown": ("{unit} broke down.", "{unit} 发生故障。"),
    "trigger.restored": ("{unit} is back.", "{unit} 已恢复。"),
    "trigger.quality_stop": ("{unit} was stopped for quality.", "{unit} 因质量问题停机。"),
    "trigger.operator_absent": ("No operator at {unit}.", "{unit} 缺操作员。"),
    "trigger.operator_back": ("The operator is back at {unit}.", "{unit} 操作员已到岗。"),
    "trigger.rush_order": ("Rush order {unit} came in.", "收到急单 {unit}。"),
    "trigger.pinned": ("A planner pinned {unit}.", "计划员固定了 {unit}。"),
    "reason.measured": (
        "{unit} is planned as it is measured: {speed_pct} % of its usual speed, {stops_pct} % more "
        "time for stops than its siblings.",
        "{unit} 按实测排程：速度为平时的 {speed_pct}%，停机时间比同类设备多 {stops_pct}%。",
    ),
    "trigger.weights_changed": (
        "{unit} changed the weights of the objective.",
        "{unit} 更改了目标权重。",
    ),
    "trigger.planned_change": (
        "A planner changed orders or working times.",
        "计划员更改了订单或工作时间。",
    ),
    "trigger.orders_changed": ("The order book changed.", "订单有变更。"),
    "trigger.late_finish": ("Job {job} on {unit} runs late.", "{unit} 上的工单 {job} 超时未完成。"),
    "trigger.late_material": ("Material for job {job} is late.", "工单 {job} 的物料迟到。"),
    "trigger.inputs_restored": (
        "Data of line {unit} can be trusted again.",
        "产线 {unit} 的数据已恢复可信。",
    ),
    "trigger.proposal_expired": (
        "Proposal {unit} was not answered in time.",
        "建议 {unit} 逾期未答复。",
    ),
    "trigger.level_lowered": (
        "The autonomy level was lowered while {unit} waited.",
        "{unit} 等待期间自主等级被调低。",
    ),
    "trigger.improve": (
        "Searched for a better plan after {unit}.",
        "在 {unit} 之后继续寻找更优排程。",
    ),
    "trigger.release_due": (
        "Jobs of line {unit} are due to go out.",
        "产线 {unit} 有工单应当派工。",
    ),
    "trigger.job_rejected": ("The receiver refused job {job}.", "接收端拒绝了工单 {job}。"),
    # why this plan
    "scenario.add": (
        "New order {order}: {quantity} x {product}, due {due_ns}.",
        "新订单 {order}：{quantity} × {product}，交期 {due_ns}。",
    ),
    "scenario.cancel": ("Order {order} is cancelled.", "取消订单 {order}。"),
    "scenario.due": (
        "Order {order} is due {due_ns} instead of {before_ns}.",
        "订单 {order} 的交期由 {before_ns} 改为 {due_ns}。",
    ),
    "scenario.down": (
        "Planned stop of {unit} from {from_ns} to {until_ns}.",
        "{unit} 计划停机：{from_ns} 至 {until_ns}。",
    ),
    "scenario.shift": (
        "Extra shift at {center} from {from_ns} to {until_ns}: {open_s} more of working time.",
        "{center} 加班：{from_ns} 至 {until_ns}，增加工作时间 {open_s}。",
    ),
    "scenario.withdraw_down": (
        "The planned stop of {unit} from {from_ns} to {until_ns} is taken back.",
        "撤销 {unit} 的计划停机：{from_ns} 至 {until_ns}。",
    ),
    "scenario.withdraw_shift": (
        "The extra shift at {center} from {from_ns} to {until_ns} is taken back.",
        "撤销 {center} 的加班：{from_ns} 至 {until_ns}。",
    ),
    "scenario.refused_kind": (
        "Scenario: there is no change {kind}; possible are {known}.",
        "方案：没有 {kind} 这种变更；可用的有 {known}。",
    ),
    "scenario.refused_incomplete": (
        "Scenario: the change {change} is incomplete: {missing}.",
        "方案：变更 {change} 不完整：{missing}。",
    ),
    "scenario.refused_too_many": (
        "Scenario: {count} changes; at most {limit} are possible.",
        "方案：共 {count} 项变更，最多 {limit} 项。",
    ),
    "scenario.refused_nothing": (
        "Scenario: there is nothing to carry out; add a change first.",
        "方案：没有可执行的变更，请先添加。",
    ),
    "scenario.refused_known": (
        "Order {order} is there already; give the new one another id.",
        "订单 {order} 已存在，请换一个编号。",
    ),
    "scenario.refused_no_product": (
        "There is no product {product}; known are {known}.",
        "没有产品 {product}；已知产品：{known}。",
    ),
    "scenario.refused_quantity": (
        "Order {order}: {quantity} pieces are more than {limit}; split it into several orders.",
        "订单 {order}：{quantity} 件超过上限 {limit}，请拆分为多个订单。",
    ),
    "scenario.refused_add_and_cancel": (
        "Order {order} would be added and cancelled; leave both out.",
        "订单 {order} 既新增又取消，请删除这两项。",
    ),
    "scenario.refused_no_order": (
        "There is no open order {order}; choose one from the list of orders.",
        "没有未完成的订单 {order}，请从订单列表中选择。",
    ),
    "scenario.refused_due_past": (
        "Order {order}: the due date is not after now; give it a later one.",
        "订单 {order}：交期不在当前时间之后，请改为更晚的时间。",
    ),
    "scenario.refused_no_machine": (
        "There is no unit {machine}; choose one from the list.",
        "没有设备 {machine}，请从列表中选择。",
    ),
    "scenario.refused_no_center": (
        "There is no work center {center}; choose one from the list.",
        "没有工作中心 {center}，请从列表中选择。",
    ),
    "scenario.refused_open_anyway": (
        "{center} works in that time anyway; choose a time in which its calendar is closed.",
        "{center} 在该时间段本来就开工，请选择日历关闭的时间。",
    ),
    "scenario.refused_span": (
        "{place}: the end must be after now and after the beginning.",
        "{place}：结束时间必须晚于当前时间和开始时间。",
    ),
    "scenario.refused_too_long": (
        "{place}: a declared time lasts at most {days} days; what lasts longer belongs into "
        "plant.toml.",
        "{place}：计划时间最长 {days} 天，更长的请写入 plant.toml。",
    ),
    "scenario.refused_overlap_down": (
        "{place} has a planned stop in that time already; choose another time, or take the old "
        "one back first.",
        "{place} 在该时间已有计划停机；请选择其他时间，或先撤销原有的。",
    ),
    "scenario.refused_overlap_shift": (
        "{place} has an extra shift in that time already; choose another time, or take the old "
        "one back first.",
        "{place} 在该时间已有加班；请选择其他时间，或先撤销原有的。",
    ),
    "reason.expected_back": (
        "The plan counts on {unit} from {until_ns} on, judged by how long its stops last.",
        "按以往停机时长估计，计划假定 {unit} 自 {until_ns} 起恢复工作。",
    ),
    "reason.best_of": (
        "{candidate} is the best of {count} plans: {objective} points, the next has {next}.",
        "在 {count} 个方案中选用“{candidate}”：评分 {objective}，次优为 {next}。",
    ),
    "reason.only_plan": ("{candidate} is the only plan found.", "只找到一个方案：{candidate}。"),
    "reason.before": (
        "The plan in force before: {late_orders} late orders, {tardiness_h} of weighted "
        "lateness, {setup_h} of changeovers. What follows compares with keeping its sequences "
        "as well as they still go.",
        "此前生效的排程：拖期订单 {late_orders} 个，加权拖期 {tardiness_h}，"
        "换型 {setup_h}。以下各项均与“尽可能保持原次序”相比。",
    ),
    "reason.tardiness": (
        "Weighted lateness changes by {delta_h}, to {after_h}.",
        "加权拖期变化 {delta_h}，变为 {after_h}。",
    ),
    "reason.late_orders": (
        "Late orders: {before} before, {after} now.",
        "拖期订单：之前 {before}，现在 {after}。",
    ),
    "reason.setups": (
        "Changeover time changes by {delta_min}, to {after_min}.",
        "换型时间变化 {delta_min}，变为 {after_min}。",
    ),
    "reason.throughput": (
        "Throughput changes by {delta} pieces/h, to {after}.",
        "产出变化 {delta} 件/小时，变为 {after}。",
    ),
    "reason.moves": ("{moves} jobs change unit or sequence.", "{moves} 个工单改变机台或次序。"),
    "reason.no_moves": ("No job changes unit or sequence.", "没有工单改变机台或次序。"),
    "reason.only_times": (
        "Only times moved: {jobs} jobs, by at most {minutes} min; units and sequences stay.",
        "仅时间变动：{jobs} 个工单，最多 {minutes} 分钟；机台与次序不变。",
    ),
    "reason.nothing_to_do": ("No job has to change.", "无需调整任何工单。"),
    "reason.calm": (
        "{rival} would score {gain_pct} % better but moves {moves} jobs: "
        "below {margin_pct} % the calmer plan is kept.",
        "“{rival}”评分优 {gain_pct} %，但需变动 {moves} 个工单："
        "低于 {margin_pct} % 时保留更平稳的方案。",
    ),
    "reason.clear_margin": (
        "It moves {moves} jobs, but beats the best calm plan by {gain_pct} %.",
        "需变动 {moves} 个工单，但比最优的平稳方案好 {gain_pct} %。",
    ),
    "reason.gap": ("At most {gap_pct} % above the lower bound.", "距下界至多 {gap_pct} %。"),
    "reason.improved": (
        "The search made it {gain_pct} % better in {iterations} steps.",
        "搜索 {iterations} 步，改善 {gain_pct} %。",
    ),
    "reason.verified": ("The independent checker found nothing wrong.", "独立校验未发现问题。"),
    # what the judge says
    "judge.observe": ("Level observe: recorded only.", "等级“观察”：仅记录。"),
    "judge.advise": (
        "Level advise: shown as advice, people act.",
        "等级“建议”：仅供参考，由人执行。",
    ),
    "judge.approve": ("Level approve: waits for approval.", "等级“批准”：等待批准。"),
    "judge.veto": (
        "Level veto: acts in {seconds} s unless somebody vetoes.",
        "等级“否决”：{seconds} 秒内无人否决即执行。",
    ),
    "judge.report": ("Level report: acts and reports.", "等级“报告”：自动执行并报告。"),
    "judge.not_verified": (
        "The independent checker found {count} faults, first: {first}.",
        "独立校验发现 {count} 处问题，首条：{first}。",
    ),
    "judge.refused_candidate": (
        "{candidate} would be better but is outside the limits.",
        "“{candidate}”更优，但超出限制。",
    ),
    # hard limits
    "envelope.frozen": (
        "{op} on {unit} starts within {minutes} minutes and may not move.",
        "{unit} 上的 {op} 将在 {minutes} 分钟内开工，处于冻结区，不可移动。",
    ),
    "envelope.moves": (
        "Line {line}: {moves} moves, but only {left} are left this hour.",
        "产线 {line}：需 {moves} 次变动，本小时仅余 {left} 次。",
    ),
    "envelope.receiver": (
        "{receiver} of line {line} is not on the list of writable receivers.",
        "产线 {line} 的 {receiver} 不在可写接收端名单中。",
    ),
    "envelope.no_receiver": (
        "Line {line} has no way out: add a [[dispatch]] table.",
        "产线 {line} 没有派工通道：请添加 [[dispatch]]。",
    ),
    # what blocks a line
    "gate.switch_off": (
        "The brain is switched off for line {line}.",
        "产线 {line} 的系统开关已关闭。",
    ),
    "gate.unknown_line": ("There is no line {line}.", "没有产线 {line}。"),
    "blocked.not_recorded": (
        "Line {line}: nothing can be recorded, the disk is full or cannot be written.",
        "产线 {line}：无法记录，磁盘已满或无法写入。",
    ),
    "blocked.no_inputs": ("Line {line}: no source is known yet.", "产线 {line}：尚无数据源。"),
    "blocked.source_unknown": (
        "Line {line}: source {source} has sent nothing yet.",
        "产线 {line}：数据源 {source} 尚未发来数据。",
    ),
    "blocked.source_lost": (
        "Line {line}: source {source} is lost.",
        "产线 {line}：数据源 {source} 已断开。",
    ),
    "blocked.stale": (
        "Line {line}: data of {source} is older than {limit_s}.",
        "产线 {line}：{source} 的数据超过 {limit_s}未更新。",
    ),
    "blocked.gap": (
        "Line {line}: data of {source} has a gap.",
        "产线 {line}：{source} 的数据有缺口。",
    ),
    "blocked.node_dead": (
        "Line {line}: edge node {node} of {source} is dead.",
        "产线 {line}：{source} 的边缘节点 {node} 已离线。",
    ),
    "release.due": (
        "{jobs} commands are due at line {line}.",
        "产线 {line} 有 {jobs} 条指令应当发出。",
    ),
    # when there is no plan
    "plan.none": ("No plan was found: {why}", "未找到可行排程：{why}"),
    "plan.too_long": (
        "A computation ({kind}) took longer than {seconds} s and was given up; the plan stays.",
        "一次计算（{kind}）超过 {seconds} 秒，已放弃；现行排程不变。",
    ),
    "plan.left_out": (
        "Order {order} ({quantity} pieces) is not planned: it needs {operations} operations, "
        "{limit} are possible. Split it into several orders.",
        "订单 {order}（{quantity} 件）未排程：需要 {operations} 道工序，最多 {limit} 道。"
        "请拆分为多个订单。",
    ),
    "plan.no_orders": ("There is nothing to plan.", "没有需要排程的订单。"),
    "plan.no_better": ("The search found nothing better.", "搜索未找到更优方案。"),
}
