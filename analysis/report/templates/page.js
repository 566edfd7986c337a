(() => {
  "use strict";
  document.documentElement.classList.add("script");
  const all = (root, what) => [...root.querySelectorAll(what)];

  // What a point is, under the pointer or the finger.
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  const show = (event) => {
    const mark = event.target.closest && event.target.closest("figure use");
    const title = mark && mark.querySelector("title");
    if (title) { mark.dataset.tip = title.textContent; title.remove(); }
    tip.hidden = !(mark && mark.dataset.tip);
    if (tip.hidden) return;
    tip.textContent = mark.dataset.tip;
    const place = mark.getBoundingClientRect(), width = document.documentElement.clientWidth;
    tip.style.left = Math.max(4, Math.min(place.right + 6, width - tip.offsetWidth - 4)) + "px";
    tip.style.top = Math.max(4, place.top - tip.offsetHeight - 4) + "px";
  };
  addEventListener("pointerover", show);
  addEventListener("pointerdown", show);
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true, capture: true });

  const pressable = (element, act) => {
    element.setAttribute("role", "button");
    element.setAttribute("tabindex", "0");
    element.addEventListener("click", act);
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); }
    });
  };

  // A name in the margin hides and shows its curve.
  for (const name of all(document, "figure [data-name]")) {
    const svg = name.closest("svg"), series = name.dataset.name;
    name.setAttribute("aria-pressed", "true");
    name.setAttribute("aria-label", "Show this curve");
    const edge = name.getBBox(), hit = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const at = { x: edge.x - 2, y: edge.y - 2, width: edge.width + 4, height: edge.height + 4, fill: "transparent" };
    for (const key in at) hit.setAttribute(key, at[key]);
    name.prepend(hit);
    pressable(name, () => {
      const on = name.getAttribute("aria-pressed") !== "true";
      name.setAttribute("aria-pressed", String(on));
      for (const mark of all(svg, `[data-series="${series}"]`)) mark.classList.toggle("off", !on);
    });
  }

  // Log or linear: the marks of a logarithmic axis are put where a linear one has them, and back.
  const scale = (text) => {
    const [kind, low, high, from, to] = text.split(" ");
    return { kind, low: +low, high: +high, from: +from, to: +to };
  };
  const linear = (axis, at) => {
    const value = axis.low * (axis.high / axis.low) ** ((at - axis.from) / (axis.to - axis.from));
    return axis.from + (value - axis.low) / (axis.high - axis.low) * (axis.to - axis.from);
  };
  const kept = new WeakMap();
  const change = (element, key, value) => {
    const old = kept.get(element) || {};
    if (!(key in old)) { old[key] = element.getAttribute(key); kept.set(element, old); }
    element.setAttribute(key, value);
  };
  const original = (element, key) => {
    const old = kept.get(element);
    return old && key in old ? old[key] : element.getAttribute(key);
  };
  const moved = (path, move, dx, dy) => path.replace(/(-?[\d.]+(?:e-?\d+)?)[ ,]+(-?[\d.]+(?:e-?\d+)?)/g, (_, x, y) => {
    const [u, v] = move(+x + dx, +y + dy);
    return `${+(u - dx).toFixed(4)} ${+(v - dy).toFixed(4)}`;
  });
  const redraw = (axes, x, y, isLinear) => {
    const move = (u, v) => [isLinear.x ? linear(x, u) : u, isLinear.y ? linear(y, v) : v];
    for (const part of axes.children) {
      const tick = /matplotlib\.axis_([12])$/.exec(part.id);
      if (tick) {
        const key = tick[1] === "1" ? "x" : "y", axis = key === "x" ? x : y;
        let last = NaN;
        const groups = all(part, `g[id*="${key}tick_"]`).map((group) => {
          const use = group.querySelector("use");
          return { group, at: use ? +use.getAttribute(key) : NaN };
        }).sort((a, b) => Math.abs(b.at - axis.from) - Math.abs(a.at - axis.from));
        for (const { group, at } of groups) {
          const to = isLinear[key] ? linear(axis, at) : at;
          group.setAttribute("transform", key === "x" ? `translate(${to - at} 0)` : `translate(0 ${to - at})`);
          // Labels that would touch: the one nearer to the end of the axis stays.
          const room = key === "x" ? 26 : 11, near = isLinear[key] && Math.abs(to - last) < room;
          for (const text of all(group, 'g[id*="text_"]')) text.classList.toggle("off", near);
          if (!near) last = to;
        }
      } else if (part.dataset.name) {
        const box = part.querySelector("rect"), middle = +box.getAttribute("y") + box.getAttribute("height") / 2;
        part.dataset.at = isLinear.y ? linear(y, middle) - middle : 0;
        part.dataset.middle = middle;
      } else if (!/text_/.test(part.id)) {
        for (const use of all(part, "use")) {
          const u = +original(use, "x"), v = +original(use, "y");
          if (u === 0 && use.closest("g[clip-path]") === null && v === 0) continue;
          const target = u === 0 && document.getElementById(use.getAttribute("xlink:href").slice(1));
          if (target) change(target, "d", moved(original(target, "d"), move, u, v));
          else {
            const [a, b] = move(u, v);
            change(use, "x", a); change(use, "y", b);
          }
        }
        for (const path of all(part, "path")) {
          if (!path.closest("defs")) change(path, "d", moved(original(path, "d"), move, 0, 0));
        }
      }
    }
    // Names in the margin follow their curves, and keep their distance.
    const names = all(axes, ":scope > [data-name]").sort((a, b) =>
      (+a.dataset.middle + +a.dataset.at) - (+b.dataset.middle + +b.dataset.at));
    let free = -Infinity;
    for (const name of names) {
      const middle = +name.dataset.middle, at = isLinear.y ? Math.max(middle + +name.dataset.at, free) : middle;
      name.setAttribute("transform", `translate(0 ${at - middle})`);
      free = at + 11;
    }
  };
  for (const figure of all(document, "figure")) {
    const bar = document.createElement("div");
    bar.className = "axes";
    const panels = all(figure, "svg g[data-x]");
    panels.forEach((axes, place) => {
      const x = scale(axes.dataset.x), y = scale(axes.dataset.y), isLinear = { x: false, y: false };
      if (axes.querySelector("image")) return;
      for (const [key, axis] of [["x", x], ["y", y]]) {
        if (axis.kind !== "log") continue;
        const button = bar.appendChild(document.createElement("button"));
        const of = panels.length > 1 ? ` of panel ${place + 1}` : "";
        const name = () => { button.textContent = `${key} axis${of}: ${isLinear[key] ? "linear" : "log"}`; };
        button.type = "button";
        button.dataset.axis = key;
        name();
        button.addEventListener("click", () => {
          isLinear[key] = !isLinear[key];
          name();
          redraw(axes, x, y, isLinear);
        });
      }
    });
    if (bar.childElementCount) figure.insertBefore(bar, figure.querySelector("figcaption"));
  }

  // A column's head sorts its table; a second press turns the order, a third brings the first one back.
  const units = { k: 1e3, M: 1e6, B: 1e9, T: 1e12, "%": 1 };
  const number = (text) => {
    const found = /^[±+]?\s*(-?[\d.]+(?:e[+-]?\d+)?)\s*([kMBT%]?)(?![\w.])/i.exec(text.trim());
    return found ? +found[1] * (units[found[2]] || 1) : NaN;
  };
  for (const table of all(document, "table")) {
    const body = table.tBodies[0], first = [...body.rows];
    all(table, "thead th").forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        const order = was === "ascending" ? "descending" : was === "descending" ? "" : "ascending";
        for (const other of all(table, "thead th")) other.removeAttribute("aria-sort");
        const sign = order === "descending" ? -1 : 1;
        const compare = (a, b) => {
          const [s, t] = [a, b].map((row) => row.cells[place].textContent), [m, n] = [number(s), number(t)];
          if (isNaN(m) !== isNaN(n)) return isNaN(m) ? 1 : -1;
          return sign * (isNaN(m) ? s.localeCompare(t, "en") : m - n);
        };
        if (order) head.setAttribute("aria-sort", order);
        body.append(...(order ? [...first].sort(compare) : first));
      });
    });
  }
})();
