// The page's own script: draws the loss curves from the data element `curves`, and opens what a link points to.
// Without it the page shows the same curves as pictures. It writes text only through textContent.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const SHOWN_FROM = 0.15; // share of the horizon before which the loss falls off the top
  const UNITS = { tokens: "tokens", flops: "FLOPs", hours: "hours" };
  const MARKERS = {
    o: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", s: "M-4 -4H4V4H-4z", "^": "M0 -5L5 4H-5z", D: "M0 -5L5 0L0 5L-5 0z",
    v: "M0 5L5 -4H-5z", P: "M-2 -5H2V-2H5V2H2V5H-2V2H-5V-2H-2z",
    X: "M-5 -3L-3 -5L0 -2L3 -5L5 -3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0z",
    "<": "M-5 0L4 -5V5z", ">": "M5 0L-4 -5V5z",
  };

  // -- what a link points to ------------------------------------------------------------------------------------------

  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  for (const link of document.querySelectorAll('a[href^="#n-"]'))
    link.addEventListener("click", () => setTimeout(reveal)); // also where the address does not change
  reveal();

  // -- curves ---------------------------------------------------------------------------------------------------------

  const root = document.getElementById("explorer");
  const data = JSON.parse(document.getElementById("curves")?.textContent ?? "null");
  if (!root || !data || !data.lines.length) return;
  const find = (name) => root.querySelector(`[data-part="${name}"]`);
  const plot = find("plot"), said = find("said");
  const on = data.arms.map(() => true);
  let lines = [], scale = null, at = null; // at: [line, point] that is told

  const make = (name, attributes, parent) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return parent ? parent.appendChild(element) : element;
  };
  const colour = (arm) => data.arms[arm].colour || "currentColor";

  const short = (value) => {
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size >= 1e15 || size < 1e-3) return value.toExponential(2).replace("e+", "e");
    for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (size >= unit) return `${+(value / unit).toPrecision(4)}${letter}`;
    return `${+value.toPrecision(4)}`;
  };

  const ticks = (low, high, log, wanted) => {
    const found = [];
    if (log) {
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
        for (const digit of [1, 2, 5]) {
          const value = digit * 10 ** power;
          if (value >= low && value <= high) found.push(value);
        }
      if (found.length > 2) return found.filter((_, i) => i % Math.ceil(found.length / wanted) === 0);
      found.length = 0;
    }
    const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((digit) => digit * power >= rough);
    for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(+(k * step).toPrecision(12));
    return found;
  };

  const axis = (values, log, from, to) => {
    let low = Math.min(...values), high = Math.max(...values);
    if (high === low) { high += Math.abs(high) * 0.01 || 1; low -= log ? 0 : Math.abs(low) * 0.01 || 1; }
    const bent = log ? Math.log : (value) => value;
    const place = (value) => from + (to - from) * (bent(value) - bent(low)) / (bent(high) - bent(low));
    return { low, high, place };
  };

  const wanted = () => {
    const domain = +find("domain").value, unit = find("unit").value, charge = find("charge").checked;
    const logX = find("log-x").checked, whole = find("whole").checked;
    const kept = data.lines.filter((line) => line.domain === domain && on[line.arm] && line.cost[unit][0] !== null)
      .map((line) => {
        const [rate, upstream] = line.cost[unit];
        return { ...line, x: line.t.map((t) => rate * t + (charge ? upstream ?? 0 : 0)) };
      });
    const last = Math.max(0, ...kept.map((line) => line.t.at(-1)));
    const from = whole ? -1 : SHOWN_FROM * last;
    return kept.map((line) => {
      const places = line.t.map((t, i) => i).filter((i) => line.t[i] >= from && (!logX || line.x[i] > 0));
      const take = (list) => places.map((i) => list[i]);
      const columns = ["t", "x", "mean", "low", "high", "seeds"].map((name) => [name, take(line[name])]);
      return { ...line, ...Object.fromEntries(columns) };
    }).filter((line) => line.x.length);
  };

  const draw = () => {
    const width = Math.max(260, plot.clientWidth), height = Math.max(260, Math.min(460, width * 0.56));
    const box = { left: 52, right: width - 14, top: 12, bottom: height - 46 };
    lines = wanted();
    const chart = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
    plot.replaceChildren(chart);
    at = null;
    if (!lines.length) {
      said.textContent = "Nothing to draw: no arm is chosen, or this unit is not known of any.";
      return;
    }
    const logX = find("log-x").checked, logY = find("log-y").checked;
    const x = axis(lines.flatMap((line) => line.x), logX, box.left, box.right);
    const y = axis(lines.flatMap((line) => [...line.low, ...line.high]), logY, box.bottom, box.top);
    scale = { x, y, box };
    rule(chart, x, y, logX, logY);
    for (const line of lines) stroke(chart, line);
    chart.append(make("g", { "data-part": "mark" }));
    tell(null);
  };

  const rule = (chart, x, y, logX, logY) => {
    const { box } = scale;
    for (const value of ticks(y.low, y.high, logY, 6)) {
      make("line", { x1: box.left, x2: box.right, y1: y.place(value), y2: y.place(value), class: "grid" }, chart);
      make("text", { x: box.left - 6, y: y.place(value) + 4, "text-anchor": "end" }, chart).textContent = short(value);
    }
    for (const value of ticks(x.low, x.high, logX, Math.max(3, Math.floor((box.right - box.left) / 80)))) {
      const across = x.place(value), near = across > box.right - 16 ? "end" : "middle";
      make("line", { x1: across, x2: across, y1: box.bottom, y2: box.bottom + 4, stroke: "currentColor" }, chart);
      make("text", { x: across, y: box.bottom + 18, "text-anchor": near }, chart).textContent = short(value);
    }
    make("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, stroke: "currentColor" }, chart);
    const charged = find("charge").checked ? "upstream and pre-training" : "pre-training";
    make("text", { x: (box.left + box.right) / 2, y: box.bottom + 38, "text-anchor": "middle" }, chart).textContent =
      `${charged} ${UNITS[find("unit").value]}${logX ? " (log)" : ""}`;
  };

  const stroke = (chart, line) => {
    const { x, y } = scale, ink = colour(line.arm);
    const path = (values) => values.map((value, i) => `${x.place(line.x[i]).toFixed(1)} ${y.place(value).toFixed(1)}`);
    if (line.scored && line.x.length <= 5) {
      line.x.forEach((_, i) => make("path", { d: `M${path(line.low)[i]}L${path(line.high)[i]}`, stroke: ink }, chart));
    } else {
      make("path", { d: `M${path(line.low).join("L")}L${path(line.high).reverse().join("L")}z`, fill: ink,
                     "fill-opacity": 0.12 }, chart);
      make("path", { d: `M${path(line.mean).join("L")}`, fill: "none", stroke: ink, "stroke-width": 1.5,
                     "stroke-dasharray": data.arms[line.arm].dash }, chart);
    }
    if (line.scored) path(line.mean).forEach((place) => make("path", {
      d: MARKERS[data.arms[line.arm].marker], fill: ink, transform: `translate(${place})` }, chart));
  };

  const tell = (next) => {
    at = next;
    const mark = plot.querySelector('[data-part="mark"]');
    mark?.replaceChildren();
    if (!at) {
      said.textContent = "Point at a curve, or focus the picture and use the arrow keys, to read a value.";
      return;
    }
    const [k, i] = at, line = lines[k], { x, y, box } = scale, unit = find("unit").value;
    const across = x.place(line.x[i]), down = y.place(line.mean[i]);
    make("line", { x1: across, x2: across, y1: box.top, y2: box.bottom, stroke: "currentColor",
                   "stroke-dasharray": "2 3" }, mark);
    make("circle", { cx: across, cy: down, r: 7, fill: "none", stroke: "currentColor", "stroke-width": 2 }, mark);
    const seeds = line.seeds[i] === 1 ? "1 seed"
      : `mean of ${line.seeds[i]} seeds, ${line.low[i].toFixed(3)} to ${line.high[i].toFixed(3)}`;
    const where = unit === "tokens" && !find("charge").checked ? "" : ` (${short(line.x[i])} ${UNITS[unit]})`;
    said.textContent = `${data.arms[line.arm].name}: loss ${line.mean[i].toFixed(4)} at ${line.t[i].toLocaleString("en")} ` +
      `pre-training tokens${where}; ${seeds}; ${line.scored ? "an end that counts" : "along the trunk, not scored"}.`;
  };

  const nearest = (event) => {
    const bounds = plot.getBoundingClientRect(), chart = plot.firstElementChild;
    const stretch = chart.viewBox.baseVal.width / bounds.width;
    const left = (event.clientX - bounds.left) * stretch, top = (event.clientY - bounds.top) * stretch;
    let best = null, least = 60 ** 2;
    lines.forEach((line, k) => line.x.forEach((value, i) => {
      const away = (scale.x.place(value) - left) ** 2 + (scale.y.place(line.mean[i]) - top) ** 2;
      if (away < least) [best, least] = [[k, i], away];
    }));
    tell(best);
  };

  const step = (event) => {
    if (!lines.length) return;
    const [k, i] = at ?? [0, -1], last = lines[k].x.length - 1;
    const along = { ArrowRight: Math.min(last, i + 1), ArrowLeft: Math.max(0, i - 1), Home: 0, End: last }[event.key];
    const beside = { ArrowDown: k + 1, ArrowUp: k - 1 }[event.key];
    if (event.key === "Escape") tell(null);
    else if (along !== undefined) tell([k, along]);
    else if (beside !== undefined) {
      const next = (beside + lines.length) % lines.length, here = lines[k].x[Math.max(0, i)];
      const away = lines[next].x.map((value) => Math.abs(value - here));
      tell([next, away.indexOf(Math.min(...away))]);
    } else return;
    event.preventDefault();
  };

  // -- controls -------------------------------------------------------------------------------------------------------

  data.domains.forEach((name, value) => find("domain").append(new Option(name, value)));
  for (const unit of Object.keys(UNITS))
    if (data.lines.some((line) => line.cost[unit][0] !== null)) find("unit").append(new Option(UNITS[unit], unit));
  data.arms.forEach((arm, k) => {
    const [label, box, name] = ["label", "input", "span"].map((tag) => document.createElement(tag));
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => { on[k] = box.checked; draw(); });
    name.textContent = arm.name;
    const swatch = make("svg", { viewBox: "0 0 36 14", class: "swatch", "aria-hidden": "true" });
    make("path", { d: "M1 7H35", stroke: colour(k), "stroke-width": 2, "stroke-dasharray": arm.dash }, swatch);
    make("path", { d: MARKERS[arm.marker], fill: colour(k), transform: "translate(18 7)" }, swatch);
    label.append(box, swatch, name);
    find("arms").append(label);
  });
  for (const control of root.querySelectorAll(".controls select, .controls [type=checkbox][data-part]"))
    control.addEventListener("change", draw);
  for (const [part, value] of [["all", true], ["none", false]])
    find(part).addEventListener("click", () => {
      on.fill(value);
      for (const box of find("arms").querySelectorAll("input")) box.checked = value;
      draw();
    });
  plot.addEventListener("pointermove", nearest);
  plot.addEventListener("pointerleave", () => tell(null));
  plot.addEventListener("keydown", step);
  root.hidden = false;
  document.documentElement.classList.add("drawn");
  let seen = 0;
  new ResizeObserver(() => {
    if (plot.clientWidth !== seen) { seen = plot.clientWidth; draw(); }
  }).observe(plot);
  draw();
})();
