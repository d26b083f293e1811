// The plant behind the fixture server: invented values in the shapes of the HTTP contract.
const HOUR = 3_600_000;
const EXECUTE = 6, SUSPENDED = 5, ABORTED = 9, HELD = 11, IDLE = 4;
const NAMES = ["unknown", "clearing", "stopped", "starting", "idle", "suspended", "execute", "stopping", "aborting", "aborted", "holding", "held"];

let seed = 12345;
const random = () => ((seed = (seed * 1103515245 + 12345) & 0x7fffffff) / 0x7fffffff);
const normal = () => random() + random() + random() + random() - 2;

function devices() {
  const root = "local/works/assembly/asm1";
  const rows = [];
  const add = (cell, id, klass, points) => rows.push({ path: `${root}/${cell}/${id}`, id, klass, cell, points, position: rows.length });
  let n = 0;
  [10, 10, 9, 9, 8].forEach((count, z) => {
    for (let k = 0; k < count; k++) add(`z${z + 1}`, `st${String(++n).padStart(2, "0")}`, "station", 90);
  });
  [["shafts", "sh"], ["differential", "df"], ["clutch", "cl"], ["valvebody", "vb"]].forEach(([cell, prefix]) => {
    for (let k = 1; k <= 6; k++) add(cell, `${prefix}${k}`, "subassembly", 95);
  });
  for (let k = 1; k <= 22; k++) add(`z${(k % 5) + 1}`, `rob${String(k).padStart(2, "0")}`, "robot", 72);
  for (let k = 1; k <= 8; k++) add("eol", `leak${k}`, "leak_tester", 45);
  for (let k = 1; k <= 4; k++) add("eol", `oil${k}`, "oil_fill", 40);
  for (let k = 1; k <= 12; k++) add("eol", `eol${String(k).padStart(2, "0")}`, "eol_bench", 160);
  for (let k = 1; k <= 14; k++) add(`z${(k % 5) + 1}`, `conv${String(k).padStart(2, "0")}`, "conveyor", 60);
  for (let k = 1; k <= 7; k++) add(`z${(k % 5) + 1}`, `vis${k}`, "vision", 40);
  for (let k = 1; k <= 12; k++) add("logistics", `agv${String(k).padStart(2, "0")}`, "agv", 30);
  for (const id of ["power", "air", "clean_room", "coolant"]) add("utilities", id, "utility", 60);
  return rows;
}

const CENTERS = [
  ["soft", "gears", "machining", 8, { en: "Soft machining", zh: "软加工" }, ["pinion", "ring", "shaft", "hybrid"]],
  ["heat", "heat", "batch", 4, { en: "Carburising furnaces", zh: "渗碳炉" }, ["case_08", "case_12", "case_16"]],
  ["hard", "finish", "machining", 10, { en: "Hard finishing", zh: "硬精加工" }, ["pinion", "ring", "shaft", "hybrid"]],
  ["housing", "housings", "machining", 8, { en: "Housings", zh: "壳体加工" }, ["dct", "edu", "hyb"]],
  ["asm1", "assembly", "line", 1, { en: "Assembly line 1", zh: "总装一线" }, ["dct", "edu", "hyb"]],
];
const PRODUCTS = [["dct_a", "DCT 7-speed A", "七速双离合 A"], ["dct_b", "DCT 7-speed B", "七速双离合 B"], ["edu_a", "E-drive unit A", "电驱动总成 A"],
  ["edu_b", "E-drive unit B", "电驱动总成 B"], ["hyb_a", "Hybrid gearbox A", "混动变速器 A"], ["hyb_b", "Hybrid gearbox B", "混动变速器 B"]];
const COMMON = ["state_current", "unit_mode_current", "blocked", "starved", "prod_processed_count", "prod_defective_count", "stop_reason", "infeed_level", "job_order", "serial"];
const COMMON_KIND = ["state", "state", "flag", "flag", "counter", "counter", "state", "gauge", "text", "text"];
const GAUGES = [["torque", "N.m", 0, 60], ["angle", "deg", 0, 360], ["force", "kN", 0, 40], ["temperature", "Cel", 10, 90], ["pressure", "bar", 0, 8], ["vibration", "mm/s", 0, 12], ["current", "A", 0, 30]];

/** `bars` above 0 stretches the plan to about so many operations, for measuring. */
export function makePlant({ bars: wanted = Number(process.env.FIXTURE_BARS ?? 0) } = {}) {
  const all = devices();
  const centers = CENTERS.map(([id, area, kind, n, names, families]) => ({
    id, area, kind, names, families,
    units: Array.from({ length: n }, (_, k) => {
      const unit = { soft: "soft", heat: "fur", hard: "hard", housing: "hous" }[id];
      const name = unit ? `${unit}${k + 1}` : "asm1";
      return { id: name, path: `local/works/${area}/${id}/main/${name}`, families: [] };
    }),
  }));
  const main = all.filter((d) => d.klass === "station");
  const feeders = ["shafts", "differential", "clutch", "valvebody"].map((cell) => all.filter((d) => d.cell === cell));
  const links = [];
  const join = (from, to, capacity) => links.push({ from: from.path, to: to.path, capacity });
  main.slice(1).forEach((d, i) => join(main[i], d, d.cell === main[i].cell ? 3 : 12));
  feeders.forEach((list, k) => {
    list.slice(1).forEach((d, i) => join(list[i], d, 3));
    join(list[5], main[[12, 20, 28, 36][k] - 1], 10);
  });
  const tags = { epoch: 0, path: [], unit: [], kind: [], low: [], high: [], counted: [] };
  const tag = (path, unit, kind, low, high, counted) => {
    tags.path.push(path); tags.unit.push(unit); tags.kind.push(kind); tags.low.push(low); tags.high.push(high); tags.counted.push(counted);
  };
  for (const d of all) {
    COMMON.forEach((name, k) => tag(`${d.path}/${name}`, "", COMMON_KIND[k], 0, k === 4 || k === 5 ? 100000 : 20, true));
    for (let k = 10; k < d.points; k++) {
      const [name, unit, low, high] = GAUGES[k % GAUGES.length];
      tag(`${d.path}/${name}_${Math.floor(k / GAUGES.length)}`, unit, "gauge", low, high, true);
    }
  }
  const upstream = centers.flatMap((c) => c.units);
  for (const u of upstream) COMMON.forEach((name, k) => tag(`${u.path}/${name}`, "", COMMON_KIND[k], 0, 100, false));
  const n = tags.path.length;
  tags.epoch = n;
  const level = Float32Array.from({ length: n }, () => 0.3 + 0.4 * random());
  const noise = Float32Array.from({ length: n }, () => 0.01 + 0.04 * random());
  const odd = new Set(Array.from({ length: 9 }, () => Math.floor(random() * n)));
  const started = Date.now();
  const states = [...all, ...upstream].map((_, i) => (i % 29 === 7 ? SUSPENDED : i % 61 === 13 ? HELD : i === 22 ? ABORTED : i > 160 && i % 9 === 4 ? IDLE : EXECUTE));
  const codes = new Uint16Array(n);
  const kinds = tags.kind.map((k) => ["gauge", "counter", "state", "flag", "text"].indexOf(k));
  let seq = 0;
  const step = () => {
    const shift = Date.now() - started > 14_000;
    for (let i = 0; i < n; i++) {
      if (i % 997 === 5) codes[i] = 65535;
      else if (i % 311 === 9) codes[i] = 65534;
      else if (kinds[i] === 0) codes[i] = Math.max(0, Math.min(65533, 65533 * (level[i] + noise[i] * normal() + (shift && odd.has(i) ? 0.4 * (i % 2 ? 1 : -1) : 0))));
      else codes[i] = kinds[i] === 3 ? 0 : kinds[i] === 1 ? (codes[i] + (random() < 0.1 ? 1 : 0)) : 19000;
    }
  };
  const head = (kind, count) => {
    const data = Buffer.alloc(24);
    data.writeUInt8(kind, 0); data.writeUInt8(1, 1); data.writeUInt32LE(n, 4); data.writeUInt32LE(++seq, 8);
    data.writeUInt32LE(count, 12); data.writeDoubleLE(Date.now(), 16);
    return data;
  };
  const value = (i, time) => tags.low[i] + (tags.high[i] - tags.low[i]) * (level[i] + noise[i] * Math.sin(time / 40_000 + i) + noise[i] * 0.3 * normal());
  const frame = (view) => {
    if (view.view === "tags") {
      const { ids } = view;
      const data = Buffer.alloc(13 * ids.length);
      ids.forEach((id, k) => {
        data.writeFloatLE(value(id, Date.now()), 4 * k);
        data.writeDoubleLE(Date.now(), 5 * ids.length + 8 * k);
      });
      return Buffer.concat([head(2, ids.length), data]);
    }
    step();
    const units = Buffer.alloc(4 + states.length);
    units.writeUInt32LE(states.length, 0);
    states.forEach((s, i) => units.writeUInt8(s, 4 + i));
    return Buffer.concat([head(1, n), Buffer.from(codes.buffer, 0, 2 * n), units]);
  };
  const now0 = Date.now();
  const schedule = makeSchedule(centers, now0, wanted);
  const decisions = makeDecisions(schedule, now0);
  const levels = Object.fromEntries(CENTERS.map(([id]) => [id, { plan: "report", repair: "approve", improve: "report", release: "report" }]));
  const switches = Object.fromEntries(CENTERS.map(([id]) => [id, true]));
  const product = (id) => PRODUCTS.find(([p]) => p === id);
  const plant = {
    enterprise: "local", site: "works", names: { en: "Transmission works", zh: "变速器工厂" }, timezone: "Asia/Shanghai", simulated: true,
    work_centers: centers, products: PRODUCTS.map(([id, en, zh]) => ({ id, names: { en, zh } })),
    lines: [{ id: "asm1", devices: all.map(({ points, ...d }) => d), links }],
  };
  const reasonOf = (state, i) => (state === SUSPENDED ? (i % 2 ? "starved" : "blocked") : state === ABORTED ? "breakdown" : state === HELD ? (i % 2 ? "no_operator" : "micro_stop") : "none");
  const line = () => ({
    line: "asm1", takt_s: 41.2 + normal() / 4, takt_goal_s: 37, output: { today: 812, hour: 84 },
    bottleneck: { path: main[22].path, confidence: 0.78, method: "turning_point", ranking: [{ path: main[22].path, score: 0.78 }] },
    stations: all.map((d, i) => ({
      path: d.path, id: d.id, klass: d.klass, cell: d.cell, state: NAMES[states[i]], reason: reasonOf(states[i], i), since_ms: Date.now() - 60_000 * (i % 17),
      processed: 800 + i, defective: i % 5, infeed: i % 4, serial: i < 70 ? `T26${String(118000 + i)}` : "", job: i < 70 ? "WO-1007.asm1" : "", cycle_s: 33 + (i % 9) + normal(), stale: i === 40,
    })),
    links: links.map((l, i) => ({ ...l, level: i === 21 ? l.capacity : (i * 7) % (l.capacity + 1), state: i === 21 ? "blocked" : i === 22 ? "starved" : "ok" })),
  });
  const orders = makeOrders(schedule, now0);
  const text = (message, zh) => ({ ...message, text: zh ? message.zh : message.en });
  const decided = (d, zh) => ({ ...d, reasons: d.reasons.map((r) => text(r, zh)), trigger: text(d.trigger, zh) });
  const read = (route, params, zh) => {
    const now = Date.now();
    if (route === "plant") return plant;
    if (route === "plant/tags") return tags;
    if (route === "health")
      return { status: "ok", version: "0.1.0", plant_ns: now * 1e6, plant_rate: 1, wall_ns: now * 1e6, signals: n, rate: 12480, stale: 40,
        sources: [{ id: "opcua", protocol: "opcua", state: "up", since_ns: (now - HOUR) * 1e6, rate: 1502, age_s: 0.1, gaps: 0 }, { id: "sparkplug", protocol: "sparkplug", state: "up", since_ns: (now - HOUR) * 1e6, rate: 10978, age_s: 0.2, gaps: 1 }],
        historian: { segments: 42, rows: 88_120_300, bytes: 103_220_110, lag_s: 0.04 } };
    if (route.startsWith("line/")) return line();
    if (route === "kpi") return { line: "asm1", pq: 812, gq: 801, units: [{ path: "asm1", oee_index: 0.853, quality_ratio: 0.987 }] };
    if (route === "live/values")
      return params.get("paths").split(",").map((path) => {
        const i = tags.path.indexOf(path);
        return { path, value: kinds[i] === 4 ? null : value(i, now), text: kinds[i] === 4 ? "WO-1007.asm1" : null, quality: 0, time_ns: now * 1e6, stale: i % 311 === 9 };
      });
    if (route === "series") {
      const [from, to, points] = ["from", "to", "points"].map((k) => Number(params.get(k)));
      return { series: params.get("paths").split(",").map((path) => {
        const i = tags.path.indexOf(path);
        const time_ms = Array.from({ length: Math.min(points, 800) }, (_, k) => from + ((to - from) * k) / 800);
        const avg = time_ms.map((t) => value(i, t));
        const w = noise[i] * (tags.high[i] - tags.low[i]);
        return { path, unit: tags.unit[i], kind: tags.kind[i], time_ms, avg, min: avg.map((v) => v - w * random()), max: avg.map((v) => v + w * random()) };
      }) };
    }
    if (route === "schedule") return schedule;
    if (route === "schedule/explain" || route === "schedule/why-not")
      return { messages: [{ id: "why.waits", text: zh ? "等待 WO-1004 于 14:20 在同一设备上完成。" : "Waits for WO-1004 on the same unit until 14:20." }, { id: "why.setup", text: zh ? "换型族相同，省去 45 分钟换型。" : "Same setup family as the job before: saves a changeover of 45 min." }] };
    if (route === "decisions") return decisions.map((d) => decided(d, zh));
    if (route.startsWith("decisions/")) {
      const found = decisions.find((d) => d.id === route.slice(10));
      return found && decided(found, zh);
    }
    if (route === "autonomy") return { lines: CENTERS.map(([id], i) => ({ line: id, on: switches[id], levels: levels[id], moves_left: 57, way: "opcua", receiver: "x", receiver_error: null, blocked: i === 1 ? { id: "b", params: {}, text: zh ? "产线 heat：数据源 opcua 已断开。" : "Line heat: source opcua is lost." } : null })),
        envelope: { frozen_min: 10, moves_per_hour: 60, max_input_age_s: 5, receivers: ["twin/soft", "twin/heat"] }, veto_s: 60, levels: ["observe", "advise", "approve", "veto", "report"], classes: ["plan", "repair", "improve", "release"] };
    if (route === "orders") return orders;
    if (route === "curves") {
      const x = Array.from({ length: 300 }, (_, i) => i / 300);
      return [{ serial: "T26118022", station: params.get("station"), program: "p1", step: 1, time_ms: now - 12_000, channels: { torque: x.map((t) => 42 * t ** 3 + 2 * Math.sin(40 * t)), angle: x.map((t) => 340 * t) } }];
    }
    if (route === "work-list")
      return [{ job: "WO-1009.housing", work_center: "housing", equipment: centers[3].units[2].path, product: "dct_a", program: "dct", quantity: 240, start_ms: now, end_ms: now + HOUR, state: "allowed_to_start" },
        { job: "WO-1005.soft", work_center: "soft", equipment: centers[0].units[1].path, product: "edu_a", program: "shaft", quantity: 300, start_ms: now - HOUR, end_ms: now + HOUR, state: "running" }];
    if (route === "alarms") return [];
    return undefined;
  };
  const self = { read, frame, silent: false };
  self.act = (method, route, data, zh) => {
    if (route === "fixture/silent") self.silent = Boolean(data.on);
    const parts = route.split("/");
    if (parts[0] === "decisions") {
      const found = decisions.find((d) => d.id === parts[1]);
      if (found) {
        found.state = { approve: "in_force", reject: "rejected", veto: "rejected" }[parts[2]];
        found.approved_by = "demo";
        return decided(found, zh);
      }
    }
    if (parts[0] === "autonomy" && parts[2] === "switch") switches[parts[1]] = data.on;
    else if (parts[0] === "autonomy") levels[parts[1]][parts[2]] = data.level;
    if (route === "orders/import") return { accepted: 3, errors: [{ row: 4, column: "quantity", value: "-3", message: zh ? "数量必须大于 0。" : "quantity must be > 0." }] };
    if (route === "orders") orders.unshift({ id: data.id, product: data.product, quantity: data.quantity, due_ms: Date.parse(data.due), release_ms: 0, priority: data.priority, state: "waiting", predicted_end_ms: null, late_s: null, done: 0, steps: [] });
    return {};
  };
  void product;
  return self;
}

function makeSchedule(centers, now, wanted) {
  const bars = [], actual = [], ghost = [], closed = [];
  let order = 1000;
  const rows = centers.flatMap((c) => c.units.map((u) => ({ ...u, center: c })));
  const each = wanted ? Math.ceil(wanted / rows.length) : 0;
  for (const [r, unit] of rows.entries()) {
    const { center } = unit;
    let time = now - 6 * HOUR + random() * HOUR;
    for (let k = 0; each ? k < each : time < now + 60 * HOUR; k++) {
      const family = center.families[Math.floor(random() * center.families.length)];
      const setup = random() < 0.4 ? HOUR * (0.3 + 0.6 * random()) : 0;
      const span = HOUR * (center.kind === "batch" ? 5 : center.kind === "line" ? 2.2 : 1.5 + 4 * random());
      const [product] = PRODUCTS[Math.floor(random() * PRODUCTS.length)];
      const id = `WO-${1000 + (order++ % 140)}`;
      const op = `${id}.${center.id}.${r}-${k}`;
      const start = time + setup;
      const status = start + span < now ? "ended" : start < now ? "running" : "planned";
      bars.push({ op, request: id, product, family, machine: unit.path, start_ms: start, end_ms: start + span, setup_start_ms: setup ? time : null, status, late_s: random() < 0.12 ? 3000 + 9000 * random() : null });
      if (start < now) actual.push({ op, machine: unit.path, start_ms: start + 200_000 * random(), end_ms: status === "running" ? null : start + span + 300_000 * random(), state: status });
      else if (random() < 0.3) ghost.push({ op, machine: unit.path, start_ms: start + HOUR * (random() - 0.3), end_ms: start + span + HOUR * (random() - 0.3) });
      time = start + span + random() * HOUR * 0.2;
    }
    if (center.kind !== "batch")
      for (let d = -1; d < 4; d++) closed.push({ machine: unit.path, start_ms: now - (now % (24 * HOUR)) + d * 24 * HOUR + 13 * HOUR, end_ms: now - (now % (24 * HOUR)) + d * 24 * HOUR + 14.3 * HOUR });
  }
  return {
    plan_id: "p-0042", time_ms: now - 90_000, now_ms: now, frozen_until_ms: now + 600_000,
    machines: rows.map((u, i) => ({ path: u.path, id: u.id, work_center: u.center.id, state: i === 5 ? "breakdown" : "up" })),
    bars, actual, ghost, closed, kpis: { weighted_tardiness_s: 182_000, late_orders: 7, makespan_s: 238_000, setup_s: 71_000, setups: 39, throughput_per_h: 84.2 }, gap: 0.124,
  };
}

function makeDecisions(schedule, now) {
  const moved = schedule.bars.filter((b) => b.start_ms > now + HOUR).slice(0, 9);
  const kpis = (f) => ({ weighted_tardiness_s: 182_000 * f, late_orders: Math.round(7 * f), throughput_per_h: 84.2 / f, setups: 39 });
  const make = (id, at, kind, state, trigger) => ({
    id, time_ms: now - at, decision_class: kind, line: "soft", trigger, candidates: [
      { name: "redispatch_1", kpis: kpis(1), objective: 191_200 }, { name: "right_shift", kpis: kpis(1.6), objective: 288_000 }, { name: "redispatch_2", kpis: kpis(1.2), objective: 230_400 }],
    chosen: 0, reasons: [
      { id: "r1", en: "soft6 is down for about 45 min; its three waiting jobs move to soft5 and soft8.", zh: "soft6 停机约 45 分钟，三个等待工单移至 soft5 与 soft8。" },
      { id: "r2", en: "WO-1012 would miss its due date by 2 h 10 if it stayed.", zh: "WO-1012 若不移动将拖期 2 小时 10 分。" }],
    changes: moved.map((b, i) => ({ op: b.op, machine_from: b.machine, machine_to: schedule.machines[i].path, start_from_ms: b.start_ms, start_to_ms: b.start_ms + 900_000 * (i - 3), shift_s: 900 * (i - 3) })),
    effect: { weighted_tardiness_s: -41_000, late_orders: -2, throughput_per_h: 1.8, setups: 1, setup_s: 2700 }, level: "approve", state, bound: 170_000, confidence: 0.82,
    approved_by: state === "in_force" ? "lin" : null, commands: state === "in_force" ? [{ job: "WO-1012.soft", outcome: "confirmed", message: "" }] : [],
    outcome: state === "in_force" ? { jobs: 12, ended: 9, mean_late_s: 140, worst_late_s: 900, good: 2100, scrap: 6 } : null, until_ms: null, answer: null,
  });
  return [
    make("d-0043", 42_000, "repair", "waiting_approval", { kind: "breakdown", path: "local/works/gears/soft/main/soft6", en: "soft6 broke down.", zh: "soft6 发生故障。" }),
    make("d-0042", 600_000, "improve", "in_force", { kind: "improve", path: "", en: "Searched for a better plan.", zh: "继续寻找更优排程。" }),
    make("d-0041", 1_900_000, "plan", "superseded", { kind: "periodic", path: "", en: "Planned again as every 15 minutes.", zh: "每 15 分钟例行重排。" }),
    make("d-0040", 3_900_000, "release", "blocked", { kind: "release_due", path: "heat", en: "Jobs of line heat are due to go out.", zh: "产线 heat 有工单应当派工。" }),
  ];
}

function makeOrders(schedule, now) {
  const ids = [...new Set(schedule.bars.map((b) => b.request))].slice(0, 60);
  return ids.map((id, i) => ({
    id, product: PRODUCTS[i % 6][0], quantity: 120 + 20 * (i % 9), due_ms: now + (i - 6) * 2.3 * HOUR, release_ms: now - 40 * HOUR, priority: i % 13 === 4 ? 9 : 1,
    state: i < 4 ? "completed" : i < 16 ? "running" : "waiting", predicted_end_ms: now + (i - 6) * 2.3 * HOUR + (i % 7 === 3 ? 1.6 : -3) * HOUR,
    late_s: i % 7 === 3 ? 1.6 * 3600 : -3 * 3600, done: i < 4 ? 120 + 20 * (i % 9) : i < 16 ? 40 : 0,
    steps: ["soft", "heat", "hard", "housing", "asm1"].map((wc, k) => ({ work_center: wc, job: `${id}.${wc}`, state: i < 4 || (i < 16 && k < 2) ? "ended" : i < 16 && k === 2 ? "running" : "planned", good: i < 4 ? 120 : 0 })),
  }));
}
