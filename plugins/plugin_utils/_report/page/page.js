/* Copyright (c) 2026, the kataops founders
   GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
   SPDX-License-Identifier: GPL-3.0-or-later */
"use strict";
(() => {
  // Everything here came from hosts. It is only ever set as text, never as markup.
  const data = JSON.parse(document.getElementById("data").textContent);
  // What hosts have in common is told once; here it is put back in its places.
  for (const host of data.hosts) {
    host.steps = data.pool[host.steps];
    for (const state of [host.before, host.after]) {
      if (state) for (const part of ["runtimes", "qemus", "libaio", "storage", "findings"]) state[part] = data.pool[state[part]];
    }
  }
  const SVG = "http://www.w3.org/2000/svg";
  const ENGINES = ["threads", "native", "io_uring"];
  const VERDICTS = ["broken", "degraded", "unknown", "ok", "not_applicable"];
  const OUTCOMES = ["failed", "rolled_back", "unreachable", "untouched", "would_change", "degraded", "partly_repaired", "repaired", "converged", "not_applicable"];
  const FIRST_ROWS = 80, CHUNK = 200;
  const byName = new Intl.Collator("en", {numeric: true});
  const count = new Intl.NumberFormat("en");
  const $ = (id) => document.getElementById(id);
  const table = $("hosts"), body = table.tBodies[0];

  // --- small builders ---------------------------------------------------------------------------------------------------------------------
  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key === "class") node.className = value;
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    for (const child of children) {
      if (child !== null && child !== undefined) node.append(child.nodeType ? child : String(child));
    }
    return node;
  }
  function icon(name, css) {
    const svg = document.createElementNS(SVG, "svg"), use = document.createElementNS(SVG, "use");
    svg.setAttribute("class", "icon" + (css ? " " + css : ""));
    svg.setAttribute("aria-hidden", "true");
    use.setAttribute("href", "#i-" + name);
    svg.append(use);
    return svg;
  }
  const hidden = (text) => el("span", {class: "vh"}, text);
  const dash = () => el("span", {class: "none", title: "not observed"}, "–", hidden(" not observed"));
  const orDash = (value) => (value === null || value === undefined || value === "" ? dash() : String(value));
  const badge = (verdict, was) => el("span", {class: "badge v-" + verdict + (was ? " was" : "")}, icon(verdict), data.verdicts[verdict] || verdict);
  const latest = (host) => host.after || host.before;
  function seconds(value) {
    if (value < 10) return value.toFixed(1) + " s";
    if (value < 120) return Math.round(value) + " s";
    const whole = Math.round(value);
    return whole < 7200 ? Math.floor(whole / 60) + " min " + (whole % 60) + " s" : Math.floor(whole / 3600) + " h " + Math.round((whole % 3600) / 60) + " min";
  }
  function bytes(value) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
    return (unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)) + " " + units[unit];
  }
  function engineWords(asked, effective) {
    const gets = effective === "none" ? "fails" : effective;
    if (asked === null && gets === null) return dash();
    if (asked === gets) return el("span", {}, asked);
    const pair = el("span", {class: "pair"}, asked || "?", icon("arrow", "arrow"), hidden(" gets "));
    pair.append(gets === null ? el("span", {class: "none"}, "?") : el("span", {class: effective === "none" ? "bad" : "meh"}, gets));
    return pair;
  }
  const KINDS = {go: "Go", rs: "runtime-rs"};
  const STRATEGIES = {none: "none", fallback: "fall back", impossible: "none possible"};
  const strategy = (name) => (name === null ? dash() : STRATEGIES[name] || name);

  // --- rows of the fleet ------------------------------------------------------------------------------------------------------------------
  const rows = data.hosts.map((host) => {
    const now = latest(host);
    const words = [host.host, host.verdict, host.outcome, host.strategy, host.summary.kata_release, host.summary.qemu_version, host.summary.engine_asked,
      KINDS[host.summary.runtime], host.reason, host.wave === null ? "" : "wave " + host.wave];
    if (host.error) words.push(host.error.phase, host.error.message);
    if (now) {
      for (const finding of now.findings) words.push(finding.id, finding.title);
      for (const runtime of now.runtimes) words.push(...runtime.handlers, runtime.qemu.path, runtime.release);
    }
    return {
      host, words: words.filter(Boolean).join("\n").toLowerCase(), ids: new Set(now ? now.findings.map((finding) => finding.id) : []),
      tr: null, detail: null,
    };
  });
  function cell(css, ...children) { return el("td", {class: css}, ...children); }
  function rowOf(item) {
    if (item.tr) return item.tr;
    const host = item.host, sum = host.summary;
    const button = el("button", {type: "button", class: "host-button", "aria-expanded": "false"}, icon("chevron"), host.host);
    const verdict = el("span", {class: "pair"});
    if (host.after && host.verdict_before !== host.verdict) verdict.append(badge(host.verdict_before, true), icon("arrow", "arrow"), hidden(" then "));
    verdict.append(badge(host.verdict));
    const ids = el("span", {class: "ids"});
    for (const id of sum.findings.slice(0, 3)) ids.append(el("code", {}, id));
    if (sum.findings.length > 3) ids.append(el("span", {class: "more"}, "+" + (sum.findings.length - 3)));
    const kata = cell("c-wide", orDash(sum.kata_release));
    const runtime = cell("c-wide", orDash(KINDS[sum.runtime]));
    if (sum.runtimes > 1) runtime.append(" ", el("span", {class: "more", title: "The host's worst runtime is shown"}, "+" + (sum.runtimes - 1)));
    const bad = ["failed", "rolled_back", "unreachable"].includes(host.outcome);
    const room = cell("c-wide num", sum.contexts_free === null ? dash() : count.format(sum.contexts_free));
    item.tr = el("tr", {class: "host"},
      el("th", {scope: "row"}, button), cell("", verdict), kata, runtime, cell("c-mid", orDash(sum.qemu_version)),
      cell("", engineWords(sum.engine_asked, sum.engine_effective)), cell("c-mid", sum.findings.length ? ids : now(host) ? el("span", {class: "none"}, "none") : dash()),
      cell("c-told c-mid", host.outcome ? el("span", {class: bad ? "bad" : host.outcome === "repaired" ? "good" : ""}, data.outcomes[host.outcome]) : dash()),
      cell("c-wide", strategy(host.strategy)), room);
    item.tr.addEventListener("click", (event) => {
      if (event.target.closest("button") || String(getSelection())) return;
      toggle(item);
    });
    button.addEventListener("click", () => toggle(item));
    return item.tr;
  }
  function now(host) { return latest(host) !== null; }
  function isOpen(item) { return item.detail !== null && item.detail.isConnected; }
  function toggle(item, open = !isOpen(item)) {
    const tr = rowOf(item);
    tr.querySelector("button").setAttribute("aria-expanded", String(open));
    tr.classList.toggle("open", open);
    if (!open) { if (item.detail) item.detail.remove(); item.detail = null; return; }
    if (!item.detail) item.detail = el("tr", {class: "detail"}, el("td", {colspan: table.tHead.rows[0].cells.length}, detailOf(item.host)));
    tr.after(item.detail);
  }

  // --- one host in detail -----------------------------------------------------------------------------------------------------------------
  function detailOf(host) {
    const grid = el("div", {class: "detail-grid"});
    if (host.error) grid.append(problemOf(host));
    if (!latest(host)) grid.append(el("p", {class: "wide"}, "Not observed: " + (host.reason || "no reason was given") + "."));
    const found = findingsOf(host), changed = host.before && host.after;
    // What is wrong comes first; after a change, what became of the host does.
    if (found && !changed) grid.append(found);
    const left = el("div", {}), right = el("div", {});
    if (latest(host)) left.append(el("h3", {}, host.after ? "Before and after" : "State"), compare(host));
    right.append(...stepsOf(host));
    grid.append(left, right);
    if (found && changed) grid.append(found);
    for (const [state, label] of [[host.before, host.after ? " before" : ""], [host.after, " after"]]) {
      if (state && state.qemus.length) grid.append(qemusOf(state, label, host));
    }
    return grid;
  }
  function problemOf(host) {
    const box = el("div", {class: "problem wide"});
    const say = (label, text, mono) => { if (text) box.append(el("p", {}, el("span", {class: "label"}, label), el(mono ? "code" : "span", {}, text))); };
    box.append(el("p", {}, el("strong", {}, (data.outcomes[host.outcome] || "Error") + (host.error.phase ? " in phase " + host.error.phase : ""))));
    say("Reason", host.error.message);
    say("Undone", host.error.undone);
    say("Next", host.error.next);
    return box;
  }
  const yes = (value, on, off) => (value === null || value === undefined ? null : value ? on || "yes" : off || "no");
  function runtimeFacts(runtime) {
    if (!runtime) return {};
    const qemu = runtime.qemu;
    return {
      "Verdict": [badge(runtime.verdict), runtime.verdict],
      "Engine": [engineWords(runtime.engine.asked, runtime.engine.effective), runtime.engine.asked + ">" + runtime.engine.effective],
      "Set in": mono(runtime.engine.source),
      "Cache keys": text([["set", runtime.cache_set], ["direct", runtime.cache_direct]].filter((pair) => pair[1] !== null).map((pair) => pair[0] + " " + pair[1]).join(", ")),
      "QEMU": mono(qemu.path),
      "Version": text([qemu.version, qemu.linkage, (qemu.origin || "").replace("_", " ")].filter(Boolean).join(", ") || (qemu.status !== "answered" && qemu.status) || null),
      "Its engines": qemu.engines ? [enginesOf(qemu.engines), JSON.stringify(qemu.engines)] : text(null),
      "Kata": text([runtime.release, KINDS[runtime.kind]].filter(Boolean).join(", ")),
    };
  }
  const WORDS = {works: "works", not_compiled: "not compiled in", refused: "refused by the kernel", falls_back: "falls back to threads", unknown: "unknown"};
  const CSS = {works: "good", not_compiled: "bad", refused: "bad", falls_back: "meh", unknown: "none"};
  function enginesOf(engines) {
    const list = el("span", {});
    ENGINES.forEach((name, index) => {
      const outcome = engines[name] || "unknown";
      list.append(index ? ", " : "", name + " ", el("span", {class: CSS[outcome]}, WORDS[outcome] || outcome));
    });
    return list;
  }
  const mono = (value) => [value ? el("code", {}, value) : dash(), value];
  const text = (value) => [orDash(value), value];
  function hostFacts(state) {
    if (!state) return {};
    const kernel = state.kernel, boxes = state.sandboxes;
    const engines = ENGINES.filter((name) => boxes.by_engine[name]).map((name) => boxes.by_engine[name] + " " + name).join(", ");
    const storage = state.storage.map((item) => item.path + ": " + (item.o_direct === null ? "O_DIRECT unknown" : item.o_direct ? "O_DIRECT" : "no O_DIRECT") + (item.filesystem ? " (" + item.filesystem + ")" : ""));
    return {
      "Kernel": text(kernel.release),
      "fs.aio-nr": text(kernel.aio_max_nr === null ? null : count.format(kernel.aio_nr) + " of " + count.format(kernel.aio_max_nr)),
      "Head-room": text(kernel.contexts_free === null ? kernel.aio_reason : count.format(kernel.contexts_free) + " AIO contexts"),
      "io_uring": text(kernel.io_uring_disabled === null ? yes(kernel.io_uring_root, "allowed", "refused") : "kernel.io_uring_disabled = " + kernel.io_uring_disabled),
      "libaio": text(state.libaio.runtime.present ? state.libaio.runtime.version || "present" : yes(state.libaio.runtime.present, "present", "absent")),
      "Storage": text(storage.join(", ")),
      "Sandboxes": text(boxes.total === null ? boxes.reason : count.format(boxes.total) + (engines ? ": " + engines : "") + (boxes.silent_fallbacks ? "; " + boxes.silent_fallbacks + " fell back silently" : "")),
    };
  }
  function compare(host) {
    const both = host.before && host.after, first = host.before || host.after, second = both ? host.after : null;
    const out = el("table", {class: "compare"}), head = el("tr", {}, el("td", {}));
    for (const name of both ? ["Before", "After"] : [host.after ? "After" : "Now"]) head.append(el("th", {scope: "col"}, name));
    out.append(el("thead", {}, head));
    const group = (title, was, is) => {
      const part = el("tbody", {}, el("tr", {class: "group"}, el("th", {scope: "rowgroup", colspan: both ? 3 : 2}, ...title)));
      for (const name of Object.keys(is && Object.keys(is).length ? is : was)) {
        const old = was[name] || [dash(), null], fresh = is && (is[name] || [dash(), null]);
        const differs = both && String(old[1]) !== String(fresh[1]);
        const tr = el("tr", {class: differs ? "changed" : ""}, el("th", {scope: "row"}, name, differs ? hidden(" (changed)") : null), el("td", {}, old[0]));
        if (both) tr.append(el("td", {}, fresh[0]));
        part.append(tr);
      }
      out.append(part);
    };
    const ids = [...new Set([...first.runtimes, ...(second ? second.runtimes : [])].map((runtime) => runtime.id))];
    const pick = (state, id) => state && state.runtimes.find((runtime) => runtime.id === id);
    for (const id of ids) {
      const runtime = pick(second, id) || pick(first, id);
      group([runtime.handlers.length ? runtime.handlers.join(", ") + " " : "no handler ", el("code", {}, id)], runtimeFacts(pick(first, id)), second && runtimeFacts(pick(second, id)));
    }
    group(["Host"], hostFacts(first), second && hostFacts(second));
    return out;
  }
  function stepsOf(host) {
    const parts = [];
    if (host.steps.length) {
      const list = el("ol", {class: "steps"});
      for (const step of host.steps) {
        const how = [step.changed === null ? null : step.changed ? "changed" : "no change", step.seconds === null ? null : seconds(step.seconds)].filter(Boolean).join(", ");
        list.append(el("li", {class: step.changed ? "did" : ""}, step.name || "?", " ", el("span", {class: "how"}, how), step.detail ? el("span", {class: "said"}, typeof step.detail === "string" ? step.detail : JSON.stringify(step.detail)) : null));
      }
      parts.push(el("h3", {}, "Steps"), list);
    }
    const facts = [host.wave === null ? null : "wave " + host.wave, host.strategy === null ? null : "strategy " + (STRATEGIES[host.strategy] || host.strategy), host.seconds === null ? null : seconds(host.seconds),
      host.bytes_sent ? bytes(host.bytes_sent) + " sent" : null, host.phase_reached ? "reached " + host.phase_reached : null].filter(Boolean);
    if (facts.length && host.outcome) parts.push(el("p", {class: "muted"}, facts.join(", ")));
    if (host.strategies_tried.length) {
      const list = el("ol", {class: "steps"});
      for (const one of host.strategies_tried) list.append(el("li", {}, one.with || STRATEGIES[one.strategy] || one.strategy || "?", " ", el("span", {class: "how"}, "failed" + (one.phase ? " in " + one.phase : "")), el("span", {class: "said"}, one.reason)));
      parts.push(el("h3", {}, "Strategies that failed"), list);
    }
    if (!host.steps.length && host.plan && (host.plan.needed || host.plan.reasons.length)) {
      const list = el("ul", {class: "steps"});
      for (const reason of host.plan.reasons) list.append(el("li", {}, reason));
      for (const price of host.plan.prices) list.append(el("li", {}, "costs: " + price));
      for (const way of host.plan.alternatives) list.append(el("li", {class: "none"}, "else: " + way.with));
      parts.push(el("h3", {}, "Plan: " + (STRATEGIES[host.plan.strategy] || host.plan.strategy)), list);
    }
    return parts;
  }
  function evidenceOf(items, label) {
    if (!items.length) return null;
    const list = el("dl", {});
    for (const item of items) list.append(el("dt", {}, "Asked"), el("dd", {}, orDash(item.asked)), el("dt", {}, "Answered", item.by ? el("span", {class: "none"}, " " + item.by) : null), el("dd", {class: "answered"}, orDash(item.answered)));
    return el("details", {class: "evidence"}, el("summary", {}, label + " (" + items.length + ")"), list);
  }
  function findingsOf(host) {
    const state = latest(host);
    if (!state) return null;
    const still = new Set(state.findings.map((finding) => finding.id + finding.runtime));
    const gone = host.after && host.before ? host.before.findings.filter((finding) => !still.has(finding.id + finding.runtime)) : [];
    if (!state.findings.length && !gone.length) return null;
    const part = el("div", {class: "wide"}, el("h3", {}, "Findings"));
    for (const [list, repaired] of [[state.findings, false], [gone, true]]) {
      for (const finding of list) {
        const tone = {error: "broken", warning: "degraded", info: "info"}[finding.severity];
        const title = el("h4", {class: "v-" + (repaired ? "ok" : tone)}, icon(repaired ? "ok" : tone), hidden(repaired ? "gone: " : finding.severity + ": "), el("span", {}, finding.title || finding.id), el("code", {class: "none"}, finding.id));
        if (repaired) title.append(el("span", {class: "gone"}, "gone"));
        const box = el("div", {class: "found"}, title);
        for (const words of repaired ? [finding.detail] : [finding.detail, finding.why]) if (words) box.append(el("p", {}, words));
        if (finding.remedy && !repaired) box.append(el("p", {}, el("b", {class: "muted"}, "Remedy "), finding.remedy));
        if (finding.where) box.append(el("p", {class: "muted"}, "At ", el("code", {}, finding.where)));
        const evidence = evidenceOf(finding.evidence, "Evidence");
        if (evidence) { if (!repaired && finding.severity !== "info") evidence.open = true; box.append(evidence); }
        part.append(box);
      }
    }
    return part;
  }
  function qemusOf(state, label, host) {
    const part = el("details", {class: "wide qemus"}, el("summary", {}, "What QEMU answered" + label + ": " + state.qemus.map((qemu) => qemu.path).join(", ")));
    for (const qemu of state.qemus) {
      const box = el("div", {class: "found"}, el("h4", {}, el("code", {}, qemu.path), el("span", {class: "muted"}, [qemu.version, qemu.linkage, (qemu.origin || "").replace("_", " "), qemu.package].filter(Boolean).join(", "))));
      if (qemu.reason) box.append(el("p", {class: "bad"}, qemu.reason));
      if (qemu.real_path && qemu.real_path !== qemu.path) box.append(el("p", {class: "muted"}, "is ", el("code", {}, qemu.real_path)));
      if (qemu.firmware_missing.length) box.append(el("p", {class: "bad"}, "Firmware missing: " + qemu.firmware_missing.join(", ")));
      for (const name of ENGINES) {
        const engine = qemu.engines[name];
        if (!engine.outcome) continue;
        const seen = engine.observed ? "; seen in /proc: " + engine.observed : "";
        box.append(el("p", {}, name + " ", el("span", {class: CSS[engine.outcome]}, WORDS[engine.outcome] || engine.outcome), el("span", {class: "muted"}, seen + (engine.reason ? ". " + engine.reason : ""))));
      }
      const all = ENGINES.flatMap((name) => qemu.engines[name].evidence).concat(qemu.evidence);
      const evidence = evidenceOf(all, "Evidence");
      if (evidence) box.append(evidence);
      part.append(box);
    }
    part.open = host.verdict === "broken" && !host.after;
    return part;
  }

  // --- sorting, filtering, drawing --------------------------------------------------------------------------------------------------------
  const rank = (list, value) => { const at = list.indexOf(value); return at < 0 ? list.length : at; };
  const none = (value) => (value === null || value === undefined ? "" : String(value));
  const COMPARE = {
    host: (a, b) => byName.compare(a.host, b.host),
    verdict: (a, b) => rank(VERDICTS, a.verdict) - rank(VERDICTS, b.verdict),
    kata: (a, b) => byName.compare(none(a.summary.kata_release), none(b.summary.kata_release)),
    runtime: (a, b) => byName.compare(none(a.summary.runtime), none(b.summary.runtime)),
    qemu: (a, b) => byName.compare(none(a.summary.qemu_version), none(b.summary.qemu_version)),
    engine: (a, b) => byName.compare(none(a.summary.engine_asked) + none(a.summary.engine_effective), none(b.summary.engine_asked) + none(b.summary.engine_effective)),
    findings: (a, b) => b.summary.findings.length - a.summary.findings.length || byName.compare(a.summary.findings.join(), b.summary.findings.join()),
    outcome: (a, b) => rank(OUTCOMES, a.outcome) - rank(OUTCOMES, b.outcome),
    strategy: (a, b) => byName.compare(none(a.strategy), none(b.strategy)),
    room: (a, b) => (a.summary.contexts_free ?? Infinity) - (b.summary.contexts_free ?? Infinity),
  };
  const view = {key: "verdict", down: false, verdicts: new Set(), shown: []};
  let drawing = 0;
  function choose() {
    const words = $("q").value.toLowerCase().split(/\s+/).filter(Boolean);
    const outcome = $("outcome") ? $("outcome").value : "", finding = $("finding") ? $("finding").value : "";
    view.shown = rows.filter((item) =>
      (!view.verdicts.size || view.verdicts.has(item.host.verdict)) && (!outcome || item.host.outcome === outcome) &&
      (!finding || item.ids.has(finding)) && words.every((word) => item.words.includes(word)));
    const by = COMPARE[view.key], sign = view.down ? -1 : 1;
    view.shown.sort((a, b) => {
      const order = by(a.host, b.host);
      if (order !== order || order === 0) return COMPARE.host(a.host, b.host);
      return sign * order;
    });
  }
  function append(from, to) {
    const piece = document.createDocumentFragment();
    for (const item of view.shown.slice(from, to)) {
      piece.append(rowOf(item));
      if (item.detail) piece.append(item.detail);
    }
    body.append(piece);
    return to < view.shown.length;
  }
  const later = window.requestIdleCallback ? (run) => requestIdleCallback(run, {timeout: 60}) : (run) => setTimeout(run, 0);
  function draw() {
    choose();
    const turn = ++drawing;
    body.replaceChildren();
    let at = FIRST_ROWS;
    const go = () => {
      if (turn !== drawing) return;
      const more = append(at, at + CHUNK);
      at += CHUNK;
      if (more) later(go); else table.dataset.drawn = String(view.shown.length);
    };
    delete table.dataset.drawn;
    if (append(0, FIRST_ROWS)) later(go); else table.dataset.drawn = String(view.shown.length);
    for (const th of table.tHead.rows[0].cells) {
      if (th.dataset.key === view.key) th.setAttribute("aria-sort", view.down ? "descending" : "ascending"); else th.removeAttribute("aria-sort");
    }
    const all = view.shown.length === rows.length;
    $("count").textContent = all ? count.format(rows.length) + (rows.length === 1 ? " host" : " hosts") : count.format(view.shown.length) + " of " + count.format(rows.length) + " hosts";
    $("none").hidden = view.shown.length > 0;
  }
  function drawAll() { drawing += 1; body.replaceChildren(); append(0, view.shown.length); table.dataset.drawn = String(view.shown.length); }

  // --- controls -----------------------------------------------------------------------------------------------------------------------------
  const say = (words) => { $("said").textContent = words; };
  for (const th of table.tHead.rows[0].cells) {
    th.firstElementChild.addEventListener("click", () => {
      view.down = view.key === th.dataset.key ? !view.down : false;
      view.key = th.dataset.key;
      draw();
    });
  }
  let typing = 0;
  $("q").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(draw, rows.length > 400 ? 120 : 0); });
  $("filters").addEventListener("submit", (event) => { event.preventDefault(); draw(); });
  for (const id of ["outcome", "finding"]) if ($(id)) $(id).addEventListener("change", draw);
  const toggles = [...document.querySelectorAll("[data-verdict]")];
  for (const button of toggles) {
    button.addEventListener("click", () => {
      const name = button.dataset.verdict, on = !view.verdicts.has(name);
      if (on) view.verdicts.add(name); else view.verdicts.delete(name);
      button.setAttribute("aria-pressed", String(on));
      draw();
    });
  }
  function clear() {
    $("q").value = "";
    for (const id of ["outcome", "finding"]) if ($(id)) $(id).value = "";
    view.verdicts.clear();
    for (const button of toggles) button.setAttribute("aria-pressed", "false");
    draw();
  }
  $("clear").addEventListener("click", clear);
  $("clear-none").addEventListener("click", () => { clear(); $("q").focus(); });
  for (const button of document.querySelectorAll("[data-finding]")) {
    button.addEventListener("click", () => {
      clear();
      $("finding").value = button.dataset.finding;
      draw();
      $("fleet").scrollIntoView();
      $("fleet").focus({preventScroll: true});
    });
  }
  async function copy(words, said) {
    try { await navigator.clipboard.writeText(words); } catch {
      const area = el("textarea", {class: "vh", "aria-hidden": "true"});
      area.value = words;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say(said);
  }
  function copied(button, words, said) {
    const label = button.textContent;
    copy(words, said).then(() => { button.textContent = "Copied"; setTimeout(() => { button.textContent = label; }, 1500); });
  }
  $("copy-limit").addEventListener("click", () => copied($("copy-limit"), "--limit '" + view.shown.map((item) => item.host.host).join(",").replaceAll("'", "'\\''") + "'", "A --limit with " + view.shown.length + " hosts was copied"));
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copied(button, $(button.dataset.copy).textContent, "Copied"));
  $("expand").addEventListener("click", () => {
    const open = $("expand").getAttribute("aria-pressed") !== "true";
    $("expand").setAttribute("aria-pressed", String(open));
    $("expand").textContent = open ? "Close all" : "Open all";
    drawAll();
    for (const item of open ? view.shown : rows) toggle(item, open);
    say(open ? view.shown.length + " hosts opened" : "All hosts closed");
  });

  // --- theme, print, links ------------------------------------------------------------------------------------------------------------------
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const stored = (value) => { try { if (value) localStorage.setItem("kata-aio-theme", value); return localStorage.getItem("kata-aio-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const label = () => { $("theme").textContent = isDark() ? "Light theme" : "Dark theme"; };
  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();
  $("theme").addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; stored(root.dataset.theme); label(); });
  dark.addEventListener("change", label);
  let theme = null;
  addEventListener("beforeprint", () => { drawAll(); theme = root.dataset.theme; root.dataset.theme = "light"; });
  addEventListener("afterprint", () => { if (theme) root.dataset.theme = theme; else delete root.dataset.theme; });
  $("print").addEventListener("click", () => print());
  function openLinked() {
    const name = decodeURIComponent(location.hash.replace(/^#host=/, ""));
    const item = location.hash.startsWith("#host=") && rows.find((row) => row.host.host === name);
    if (!item) return;
    clear();
    drawAll();
    toggle(item, true);
    item.tr.scrollIntoView();
    item.tr.querySelector("button").focus({preventScroll: true});
  }
  addEventListener("hashchange", openLinked);
  label();
  draw();
  openLinked();
})();
