"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const sessions = data.sessions;
  const PAGE = 100, ROWS = 100, LONG = 20000;
  const byId = (id) => document.getElementById(id);
  const words = (state) => state.replaceAll("_", " ");
  const number = (value) => value.toLocaleString("en");

  // Values are set as text and as attributes, never as markup.
  function make(namespace, name, given, children) {
    const made = namespace ? document.createElementNS(namespace, name) : document.createElement(name);
    for (const [key, value] of Object.entries(given || {})) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.flat().filter((one) => one !== null && one !== undefined && one !== false));
    return made;
  }
  const el = (name, given, ...children) => make(null, name, given, children);
  const SVG = "http://www.w3.org/2000/svg";
  const svg = (name, given, ...children) => make(SVG, name, given, children);

  const icon = (name) =>
    svg("svg", { class: "icon", "aria-hidden": "true", width: 16, height: 16 }, svg("use", { href: "#i-" + name }));
  const badge = (state) => el("span", { class: "badge " + state }, icon(state), words(state));

  // A next step, with a button to copy each command.
  function copyable(code) {
    if (!navigator.clipboard) return;
    const text = code.textContent;
    const button = el("button", { type: "button", class: "copy", "aria-label": "Copy: " + text }, "Copy");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Select it";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    code.classList.add("copies");
    code.append(button);
  }
  function stepOf(parts) {
    return el("p", { class: "step" }, el("strong", {}, "Next"), " ", ...parts.map((part) => {
      if (!part.is_command) return part.text;
      if (!part.is_whole) return el("code", {}, part.text);
      const code = el("code", { class: "command" }, part.text);
      copyable(code);
      return code;
    }));
  }

  // Tables that grow by the press of a button: a row costs nothing until it is shown.
  function grown(title, heads, rows, rowOf, empty) {
    const body = el("tbody");
    const table = el("table", {}, el("caption", {}, title),
      el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))), body);
    const box = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, table);
    const more = el("button", { type: "button", class: "rest" });
    const none = el("p", { class: "plain", role: "status" });
    let wanted = rows, shown = 0;
    const grow = (count) => {
      body.append(...wanted.slice(shown, shown + count).map(rowOf));
      shown = Math.min(wanted.length, shown + count);
      more.hidden = shown === wanted.length;
      more.textContent = "Show " + number(Math.min(1000, wanted.length - shown)) + " more of " + number(wanted.length);
      box.hidden = wanted.length === 0;
      none.textContent = wanted.length ? "" : empty;
    };
    more.addEventListener("click", () => grow(1000));
    grow(ROWS);
    return {
      nodes: [box, none, more],
      show(fitting) { wanted = fitting; shown = 0; body.replaceChildren(); grow(ROWS); },
    };
  }

  function value(title, text) {
    const details = el("details", {}, el("summary", {}, title));
    details.addEventListener("toggle", () => {
      if (!details.open || details.childElementCount > 1) return;
      const pre = el("pre", { tabindex: 0, role: "region", "aria-label": title }, text.slice(0, LONG));
      details.append(pre);
      if (text.length <= LONG) return;
      const all = el("button", { type: "button" }, "Show all " + number(text.length) + " characters");
      all.addEventListener("click", () => { pre.textContent = text; pre.focus(); all.remove(); });
      details.append(all);
    });
    return details;
  }

  function operationsOf(session) {
    const rows = session.operations || [];
    if (!rows.length) return [];
    const heads = ["Operation", "State", "Kind", "Replay class", "Detail"].concat(data.values ? ["Values"] : []);
    const table = grown("Operations of " + session.id, heads, rows, (row) => el("tr", {},
      el("th", { scope: "row" }, row.id),
      el("td", {}, badge(row.state)),
      el("td", {}, row.kind || ""),
      el("td", {}, words(row.replay || "") + (row.independent ? ", independent" : "")),
      el("td", { class: "text" }, row.detail || ""),
      data.values && el("td", { class: "text" },
        row.payload && value("Payload", row.payload), row.receipt && value("Receipt", row.receipt)),
    ), "No operation fits.");
    const head = el("h4", {}, "Operations", el("span", { class: "number" }, number(rows.length)));
    if (rows.length > 8) {
      const input = el("input", { type: "search", placeholder: "id, state, kind, values", autocomplete: "off" });
      head.append(el("label", { class: "opfilter" }, "Filter", input));
      input.addEventListener("input", later(() => {
        const asked = input.value.trim().toLowerCase();
        table.show(rows.filter((row) => [row.id, row.state, row.kind, row.replay, row.detail, row.payload, row.receipt]
          .some((text) => text && text.toLowerCase().includes(asked))));
      }));
    }
    return [head, ...table.nodes];
  }

  function historyOf(session) {
    const rows = session.history || [];
    if (!rows.length) return [];
    const table = grown("History of " + session.id, ["Time", "Event", "Owner", "About"], rows, (row) => el("tr", {},
      el("td", { class: "time" }, row.at), el("th", { scope: "row" }, words(row.event)), el("td", {}, row.owner),
      el("td", { class: "text" }, row.text || "", row.values && value("Payload", row.values)),
    ), "");
    return [el("details", { class: "sub" }, el("summary", {}, "History as a table, " + number(rows.length)), ...table.nodes)];
  }

  function artifactsOf(session) {
    const rows = session.artifacts || [];
    if (!rows.length) return [];
    const table = grown("Artifacts of " + session.id, ["Key", "Bytes", "Written", "Problem"], rows, (row) => el("tr", {},
      el("th", { scope: "row" }, row.key),
      el("td", { class: "size" }, row.size === undefined ? "missing" : number(row.size)),
      el("td", { class: "time" }, row.at || ""), el("td", { class: "text problem" }, row.problem || ""),
    ), "");
    const isOpen = rows.some((row) => row.problem);
    return [el("details", { class: "sub", open: isOpen }, el("summary", {}, "Artifacts, " + number(rows.length)), ...table.nodes)];
  }

  // Shapes differ as much as colours do.
  const SHAPES = {
    planned: "M-5-5H5V5H-5z", sending: "M-4-5 6 0-4 5z", confirmed: "M0-4.6A4.6 4.6 0 1 1-.01-4.6z",
    claimed: "M0-6 6 0 0 6-6 0z", waiting: "M-2.6-5V5M2.6-5V5", ended_resume_needed: "M4.6-2A5 5 0 1 0 5 1M5-5.6V-1.6H1",
    ended_blocked: "M-2.6-6H2.6L6-2.6V2.6L2.6 6H-2.6L-6 2.6V-2.6z", unblocked: "M0-6 6 0 0 6-6 0zM-2 0H2M0-2V2",
    abandoned: "M-4.6-4.6 4.6 4.6M-4.6 4.6 4.6-4.6", completed: "M0-7 2-2.4 7-2.2 3.2 1 4.4 6 0 3.2-4.4 6-3.2 1-7-2.2-2-2.4z",
  };
  SHAPES.ended_abandoned = SHAPES.abandoned;
  const MEANS = {
    planned: "planned", sending: "about to send", confirmed: "journal entry", claimed: "claimed", waiting: "began to wait",
    ended_resume_needed: "ended: resume needed", ended_blocked: "ended: blocked", unblocked: "unblocked",
    abandoned: "abandoned", ended_abandoned: "abandoned", completed: "final artifact",
  };
  const ROLES = { run: "first run", resume: "resume", takeover: "takeover", operator: "operator's decision" };
  const shape = (event) => svg("path", { class: "mark " + event, d: SHAPES[event] || SHAPES.confirmed });
  const said = (node, text) => { node.append(svg("title", {}, text)); return node; };

  function drawing(line, id, width) {
    const narrow = width < 560, left = narrow ? 14 : 176, right = 18, lane = narrow ? 58 : 46, top = 30;
    const height = top + line.lanes.length * lane + 8;
    const at = (x) => left + x * (width - left - right);
    const parts = [];
    for (const gap of line.gaps || []) {
      const a = at(gap.start), b = at(gap.end);
      const box = svg("g", {}, svg("rect", { class: "gap", x: a, y: top, width: b - a, height: height - top }),
        svg("path", { class: "break", d: `M${a} ${top}V${height}M${b} ${top}V${height}` }));
      if (b - a > gap.text.length * 6 + 6) {
        box.append(svg("text", { x: (a + b) / 2, y: top + 10, "text-anchor": "middle", class: "gaptext" }, gap.text));
      }
      parts.push(said(box, gap.text + " without an event, drawn shorter"));
    }
    let free = -Infinity;
    for (const tick of line.ticks || []) {
      const room = tick.text.length * 6.2, x = at(tick.x);
      const begin = Math.min(Math.max(x - room / 2, 2), width - room - 2);
      if (begin < free) continue;
      free = begin + room + 12;
      parts.push(svg("path", { class: "grid", d: `M${x} 20V${height}` }), svg("text", { x: begin, y: 14 }, tick.text));
    }
    if (line.now !== undefined) {
      const x = at(line.now);
      parts.push(said(svg("path", { class: "now", d: `M${x} 20V${height}`, "stroke-width": 1.5 }), "when this report was made"));
    }
    let before = null;
    line.lanes.forEach((one, index) => {
      const y = top + index * lane + (narrow ? 38 : 25), a = at(one.start), b = at(one.end);
      const names = narrow
        ? [svg("text", { class: "name", x: left, y: y - 16 }, (one.name + ", " + ROLES[one.role]).slice(0, 52))]
        : [svg("text", { class: "name", x: 12, y: y - 2 }, one.name.length > 25 ? one.name.slice(0, 23) + "\u2026" : one.name),
          svg("text", { x: 12, y: y + 12 }, ROLES[one.role])];
      parts.push(svg("path", { class: "base", d: `M${left} ${y}H${width - right}` }));
      if (before && one.role !== "operator") {
        const x = at(before.end), bend = before.y + lane / 2;
        parts.push(said(svg("path", { class: "link " + one.role, d: `M${x} ${before.y}V${bend}H${a}V${y}` }), ROLES[one.role]));
      }
      parts.push(said(svg("g", {}, ...names), one.name + ", " + ROLES[one.role]));
      parts.push(svg("rect", { class: "track " + one.role, x: a - 7, y: y - 8, width: b - a + 14, height: 16, rx: 8 }));
      for (const [from, to] of one.waits || []) {
        parts.push(said(svg("rect", { class: "wait", x: at(from), y: y - 7, width: Math.max(2, at(to) - at(from)), height: 14 }), "waiting"));
      }
      const most = Math.max(1, ...(one.receipts || []).map((pair) => pair[1]));
      for (const [x, count] of one.receipts || []) {
        const size = 4 + 12 * Math.sqrt(count / most);
        parts.push(said(svg("rect", { class: "receipts", x: at(x) - 1.5, y: y - size / 2, width: 3, height: size }),
          number(count) + (count === 1 ? " receipt" : " receipts")));
      }
      for (const mark of one.marks || []) {
        parts.push(said(svg("g", { transform: `translate(${at(mark.x)} ${y})` }, shape(mark.event)), mark.text));
      }
      if (one.role !== "operator") before = { end: one.end, y };
    });
    const names = [svg("title", { id: "t-" + id }, "Timeline of " + id), svg("desc", { id: "d-" + id }, line.summary)];
    const hatch = svg("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("path", { class: "hatchline", d: "M0 0V5" }));
    return svg("svg", { class: "drawing", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-labelledby": `t-${id} d-${id}` },
      ...names, svg("defs", {}, hatch), ...parts);
  }

  function timelineOf(session) {
    const line = session.timeline;
    if (!line) return [];
    const used = new Set(line.lanes.flatMap((one) => (one.marks || []).map((mark) => mark.event)));
    const lanes = el("div", { class: "lanes", tabindex: 0, role: "region", "aria-label": "Timeline of " + session.id });
    const legend = el("ul", { class: "legend", "aria-label": "What the signs mean" }, ...Object.keys(MEANS).filter((event) => used.has(event))
      .map((event) => el("li", {}, svg("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, shape(event)), MEANS[event])));
    if (line.lanes.some((one) => (one.receipts || []).length)) {
      legend.append(el("li", {}, svg("svg", { class: "drawing", width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" },
        svg("rect", { class: "receipts", x: 6.5, y: 1, width: 3, height: 14 })), "receipts"));
    }
    if (line.now !== undefined) {
      legend.append(el("li", {}, svg("svg", { class: "drawing", width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" },
        svg("path", { class: "now", d: "M8 0V16", "stroke-width": 1.5 })), "now"));
    }
    let drawn = 0;
    const draw = () => {
      const width = Math.max(280, Math.floor(lanes.clientWidth));
      if (Math.abs(width - drawn) < 2 || !lanes.clientWidth) return;
      drawn = width;
      lanes.replaceChildren(drawing(line, session.id, width));
    };
    new ResizeObserver(draw).observe(lanes);
    return [el("h4", {}, "Timeline"),
      el("figure", { class: "timeline" }, lanes, legend)];
  }

  function bodyOf(session) {
    const facts = session.facts || [];
    return el("div", { class: "body" },
      el("dl", { class: "facts" }, ...facts.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)))),
      session.why && el("p", { class: "why" }, session.why, session.reason && " ", session.reason && el("span", { class: "code" }, session.reason)),
      session.error && el("p", { class: "said" }, session.error),
      session.step && stepOf(session.step),
      session.way_out && el("ol", { class: "way" }, ...session.way_out.map((text) => el("li", {}, text))),
      session.stops && el("h4", {}, "Stops"),
      session.stops && el("ul", { class: "plain" }, ...session.stops.map((text) => el("li", {}, text))),
      session.warnings && el("h4", {}, "Warnings of planning"),
      session.warnings && el("ul", { class: "plain" }, ...session.warnings.map((text) => el("li", {}, text))),
      ...timelineOf(session), ...historyOf(session), ...operationsOf(session), ...artifactsOf(session));
  }

  function rowOf(session) {
    const done = session.confirmed || 0, total = session.total || 0;
    const part = el("span", { class: "part " + session.state });
    if (total) {
      part.append(svg("svg", { height: 6, "aria-hidden": "true" }, svg("rect", { class: "of", width: "100%", height: 6 }),
        svg("rect", { class: "done", width: (100 * done) / total + "%", height: 6 })), `${number(done)}/${number(total)}`);
      part.append(el("span", { class: "skip" }, " confirmed"));
    }
    const note = [session.reason && words(session.reason), session.error].filter(Boolean).join(": ") || session.why;
    const details = el("details", { class: "session", id: "s-" + session.id },
      el("summary", {}, badge(session.state), el("h3", {}, session.id), part,
        el("span", { class: "when" }, session.planned_at || ""), el("span", { class: "chevron", "aria-hidden": "true" }),
        note && el("span", { class: "note" }, note)));
    details.addEventListener("toggle", () => {
      if (details.open && details.childElementCount === 1) details.append(bodyOf(session));
    });
    return el("li", {}, details);
  }

  function later(action) {
    let timer = 0;
    return () => { clearTimeout(timer); timer = setTimeout(action, 80); };
  }

  // The list: filtered by state and by text; as many rows as are wanted.
  const list = byId("list"), found = byId("found"), more = byId("more"), search = byId("search");
  const states = new Set();
  let fitting = sessions, shown = 0;
  const texts = new Map();
  const textOf = (session) => {
    if (!texts.has(session)) {
      texts.set(session, [session.id, words(session.state), session.reason, session.error, ...(session.facts || []).flat(),
        ...(session.operations || []).map((row) => row.id + " " + (row.kind || ""))].join("\n").toLowerCase());
    }
    return texts.get(session);
  };
  function grow(count) {
    list.append(...fitting.slice(shown, shown + count).map(rowOf));
    shown = Math.min(fitting.length, shown + count);
    more.hidden = shown === fitting.length;
    more.textContent = `Show more (${number(fitting.length - shown)} left)`;
  }
  function filter() {
    const asked = search.value.trim().toLowerCase();
    fitting = sessions.filter((one) => (!states.size || states.has(one.state)) && (!asked || textOf(one).includes(asked)));
    shown = 0;
    list.replaceChildren();
    grow(PAGE);
    found.textContent = fitting.length === sessions.length
      ? `${number(sessions.length)} on this page` : `${number(fitting.length)} of ${number(sessions.length)}`;
  }
  function open(id) {
    let target = byId("s-" + id);
    if (!target) {
      const place = sessions.findIndex((one) => one.id === id);
      if (place < 0) return;
      states.clear();
      document.querySelectorAll("button.count").forEach((one) => one.setAttribute("aria-pressed", "false"));
      search.value = "";
      filter();
      grow(Math.max(0, place + 1 - shown));
      target = byId("s-" + id);
    }
    target.open = true;
    target.scrollIntoView({ block: "start" });
    target.querySelector("summary").focus({ preventScroll: true });
  }
  const followed = () => { if (location.hash.startsWith("#s-")) open(decodeURIComponent(location.hash.slice(3))); };

  const present = new Set(sessions.map((one) => one.state));
  for (const old of document.querySelectorAll(".count")) {
    const state = old.dataset.state;
    if (!present.has(state)) continue;
    const button = el("button", { type: "button", class: old.className, "aria-pressed": "false" });
    button.append(...old.childNodes);
    button.addEventListener("click", () => {
      if (!states.delete(state)) states.add(state);
      button.setAttribute("aria-pressed", String(states.has(state)));
      filter();
    });
    old.replaceWith(button);
  }
  if (sessions.length) {
    byId("filter").hidden = false;
  } else {
    document.querySelector(".sessions").hidden = true;
  }
  search.addEventListener("input", later(filter));
  more.addEventListener("click", () => grow(PAGE));
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement;
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && event.target === search) {
      search.value = "";
      filter();
    }
  });
  document.querySelectorAll(".card .command").forEach(copyable);
  document.querySelectorAll(".card h3 a").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    history.replaceState(null, "", link.getAttribute("href"));
    followed();
  }));
  window.addEventListener("hashchange", followed);
  window.addEventListener("beforeprint", () => grow(fitting.length));

  const theme = byId("theme"), kinds = ["auto", "light", "dark"];
  const remembered = (() => { try { return localStorage.getItem("writeahead-theme"); } catch { return null; } })();
  function paint(kind) {
    if (kind === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = kind;
    theme.textContent = "Theme: " + kind;
    theme.dataset.kind = kind;
  }
  theme.hidden = false;
  paint(kinds.includes(remembered) ? remembered : "auto");
  theme.addEventListener("click", () => {
    const kind = kinds[(kinds.indexOf(theme.dataset.kind) + 1) % 3];
    paint(kind);
    try { localStorage.setItem("writeahead-theme", kind); } catch { /* a file may have no storage */ }
  });
  filter();
  followed();
})();
