"use strict";
{
  const D = JSON.parse(document.getElementById("data").textContent);
  const $ = id => document.getElementById(id);
  const make = (tag, options = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "text") node.textContent = value;
      else if (name === "onclick") node.addEventListener("click", value);
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  };
  const words = name => name.replaceAll("_", " ");
  const N = D.n, NO_PROBABILITY = 0xffff;

  // Numbers are base64 of little-endian bytes: {kind: text}. A column is decoded when it is first used.
  const KINDS = {u2: Uint16Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array};
  const unpack = column => {
    const [[kind, text]] = Object.entries(column);
    if (Uint8Array.fromBase64) return new KINDS[kind](Uint8Array.fromBase64(text).buffer);
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return new KINDS[kind](bytes.buffer);
  };
  for (const name of ["row", "ra", "dec", "label", "entropy", "flag", "ood"]) if (D[name]) D[name] = unpack(D[name]);
  const decoded = [];
  const probabilities = label => decoded[label] ??= unpack(D.p[label]);
  const p = (label, row) => { const value = probabilities(label)[row]; return value === NO_PROBABILITY ? NaN : value / 1000; };
  const classified = row => probabilities(0)[row] !== NO_PROBABILITY;
  const label = row => D.labels[D.label[row]];
  const shown = (value, digits = 2) => Number.isFinite(value) ? value.toFixed(digits) : "–";
  const flags = row => D.flags.filter(flag => D.flag[row] & flag.bit);
  const located = row => Number.isFinite(D.ra[row] + D.dec[row]);
  const degrees = value => Number.isFinite(value) ? Number(value.toFixed(6)) : "";
  const viewer = row => `https://www.legacysurvey.org/viewer?ra=${degrees(D.ra[row])}&dec=${degrees(D.dec[row])}&layer=ls-dr9&zoom=15`;
  const sky = (row, text) => make("a", {href: viewer(row), target: "_blank", rel: "noopener noreferrer", text});
  const picture = row => row in D.pictures
    ? make("img", {src: "data:image/jpeg;base64," + D.pictures[row], alt: "Composite of " + (D.id[row] || "a galaxy"), width: D.side, height: D.side})
    : null;

  // The answers that matter for a galaxy: the best answer to the first question, then of each other question the one that
  // is most above its mean over the catalog, if it is probable at all. Of plain classes the best.
  const SHOWN = 4, PROBABLE = 0.2;
  const weight = (i, row) => p(i, row) - D.mean[i] / 2;
  const answer = (question, i, row) => {
    const text = question.answers[i - question.labels[0]];
    return [words(text === "yes" ? question.name : text), p(i, row), weight(i, row)];
  };
  const best = row => {
    if (!classified(row)) return [];
    if (D.classes) return D.names.map((name, i) => [words(name), p(i, row)]).sort((a, b) => b[1] - a[1]).slice(0, SHOWN);
    const top = question => question.labels
      .filter(i => p(i, row) >= PROBABLE && question.answers[i - question.labels[0]] !== "no")
      .map(i => answer(question, i, row)).sort((a, b) => b[2] - a[2])[0];
    const first = D.questions[0], most = first.labels.reduce((a, b) => p(b, row) > p(a, row) ? b : a);
    const others = D.questions.slice(1).map(top).filter(Boolean).sort((a, b) => b[2] - a[2]);
    return [answer(first, most, row), ...others].slice(0, SHOWN);
  };
  const bar = (name, value) => {
    const fill = make("i");
    fill.style.width = 100 * (value || 0) + "%";
    return make("div", {class: "b"}, fill, make("span", {text: name, title: name}), make("span", {text: shown(value)}));
  };

  // Galleries.
  const card = row => {
    const text = make("div", {class: "text"}, make("span", {class: "name", text: D.id[row] || "row " + D.row[row]}), make("span", {text: classified(row) ? words(label(row)) : "no probability"}));
    if (classified(row)) text.append(make("div", {class: "bars"}, ...best(row).map(([name, value]) => bar(name, value))));
    if (D.flag[row]) text.append(make("span", {class: "flagged", text: "Flags: " + flags(row).map(flag => words(flag.name)).join(", ")}));
    const node = make("button", {type: "button", class: "card", onclick: () => open(row)});
    const image = picture(row);
    if (image) node.append(image);
    else if (D.reasons[row] && Object.keys(D.pictures).length) node.append(make("span", {class: "none", text: "No picture. " + D.reasons[row]}));
    node.append(text);
    return node;
  };
  for (const node of document.querySelectorAll(".cards")) node.append(...JSON.parse(node.dataset.rows).map(card));

  // The table: only the rows in sight are drawn.
  const HEIGHT = 38, MARGIN = 8;
  const form = $("filters"), scroller = $("scroller"), head = $("rows").tHead.rows[0], body = $("rows").tBodies[0];
  for (const [i, name] of D.labels.entries()) if (name) $("f-label").append(make("option", {value: i, text: words(name)}));
  for (const flag of D.flags) $("f-flag").append(make("option", {value: flag.bit, text: flag.bit + " " + words(flag.name)}));
  for (const [i, name] of D.names.entries()) $("f-p").append(make("option", {value: i, text: words(name)}));
  const chosen = () => Number($("f-p").value);
  const columns = [
    {name: "id", title: "identifier", value: row => D.id[row], width: 22},
    {name: "label", title: "label", value: row => classified(row) ? words(label(row)) : "", width: 26},
    {name: "p", title: "probability", value: row => p(chosen(), row), digits: 3, width: 14},
    {name: "entropy", title: "entropy", value: row => D.entropy[row], digits: 2, width: 10, wide: true},
    ...(D.ood ? [{name: "ood", title: "unlikeness", value: row => D.ood[row], digits: 2, width: 12, wide: true}] : []),
    {name: "flag", title: "flags", value: row => D.flag[row], width: 14, draw: row => flags(row).map(flag => words(flag.name)).join(", ")},
    {name: "ra", title: "ra (deg)", value: row => D.ra[row], digits: 5, width: 12, wide: true},
    {name: "dec", title: "dec (deg)", value: row => D.dec[row], digits: 5, width: 12, wide: true},
  ];
  const collator = new Intl.Collator("en", {numeric: true});
  let order = [...Array(N).keys()], sorted = {column: null, down: false}, current = -1;

  for (const column of columns) {
    const button = make("button", {type: "button", text: column.title, onclick: () => {
      sorted = {column, down: sorted.column === column ? !sorted.down : "digits" in column};
      update();
    }});
    const th = make("th", {scope: "col", class: (column.wide ? "wide-only " : "") + ("digits" in column ? "number" : ""), style: `width:${column.width}%`}, button);
    column.th = th;
    head.append(th);
  }

  const update = () => {
    const text = $("f-text").value.trim().toLowerCase(), wanted = $("f-label").value, flag = $("f-flag").value;
    const low = $("f-min").value === "" ? 0 : Number($("f-min").value), high = $("f-max").value === "" ? 1 : Number($("f-max").value);
    const at = chosen();
    order = [];
    for (let row = 0; row < N; row++) {
      if (wanted !== "" && (D.label[row] !== Number(wanted) || !classified(row))) continue;
      if (flag === "nan" ? classified(row) : flag === "0" ? D.flag[row] : flag === "-1" ? !D.flag[row] : flag !== "" && !(D.flag[row] & flag)) continue;
      if ((low > 0 || high < 1) && !(p(at, row) >= low && p(at, row) <= high)) continue;
      if (text && !D.id[row].toLowerCase().includes(text) && !words(label(row)).includes(text) && !label(row).includes(text)) continue;
      order.push(row);
    }
    if (sorted.column) {
      const {value, digits} = sorted.column, sign = sorted.down ? -1 : 1, keys = new Map(order.map(row => [row, value(row)]));
      if (digits === undefined && sorted.column.name !== "flag") {  // texts: by their rank among those that there are
        const ranks = new Map([...new Set(keys.values())].sort(collator.compare).map((text, rank) => [text, rank]));
        for (const [row, text] of keys) keys.set(row, ranks.get(text));
      }
      // Rows without a number come last, in either direction.
      order.sort((a, b) => {
        const x = keys.get(a), y = keys.get(b);
        return Number.isNaN(x) - Number.isNaN(y) || (Number.isNaN(x) ? 0 : sign * (x - y)) || a - b;
      });
    }
    for (const column of columns) column.th.setAttribute("aria-sort", column !== sorted.column ? "none" : sorted.down ? "descending" : "ascending");
    const header = columns.find(column => column.name === "p").th.firstChild;
    header.textContent = "p " + words(D.names[at]);
    header.title = "probability of " + words(D.names[at]);
    $("count").textContent = `${order.length.toLocaleString("en")} of ${N.toLocaleString("en")} rows`;
    $("rows").setAttribute("aria-rowcount", order.length + 1);
    scroller.scrollTop = 0;
    drawn = "";
    draw();
  };

  let drawn = "";
  const space = height => {
    const cell = make("td");
    cell.style.height = height + "px";
    return make("tr", {class: "space", "aria-hidden": "true"}, cell);
  };
  const draw = () => {
    const first = Math.max(0, Math.floor(scroller.scrollTop / HEIGHT) - MARGIN);
    const last = Math.min(order.length, first + Math.ceil(scroller.clientHeight / HEIGHT) + 2 * MARGIN);
    if (drawn === first + " " + last) return;
    drawn = first + " " + last;
    const focused = document.activeElement?.dataset?.at, rows = [space(first * HEIGHT)];
    for (let at = first; at < last; at++) {
      const row = order[at], line = make("tr", {"aria-rowindex": at + 2});
      for (const column of columns) {
        const value = column.value(row);
        const text = column.draw ? column.draw(row) : "digits" in column ? shown(value, column.digits) : value;
        const cell = make("td", {class: (column.wide ? "wide-only " : "") + ("digits" in column ? "number" : "")});
        if (column.name === "id") cell.append(make("button", {type: "button", class: "link", "data-at": at, text: text || "row " + D.row[row], onclick: () => open(row)}));
        else cell.textContent = text;
        if (!("digits" in column)) cell.title = text;
        line.append(cell);
      }
      rows.push(line);
    }
    rows.push(space((order.length - last) * HEIGHT));
    body.replaceChildren(...rows);
    if (focused !== undefined) body.querySelector(`[data-at="${focused}"]`)?.focus({preventScroll: true});
  };
  const focusRow = at => {
    at = Math.max(0, Math.min(order.length - 1, at));
    const top = at * HEIGHT, room = scroller.clientHeight - 2 * HEIGHT;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top > scroller.scrollTop + room) scroller.scrollTop = top - room;
    draw();
    body.querySelector(`[data-at="${at}"]`)?.focus({preventScroll: true});
  };
  scroller.addEventListener("scroll", draw, {passive: true});
  addEventListener("resize", draw);
  scroller.addEventListener("keydown", event => {
    const at = event.target.dataset.at === undefined ? null : Number(event.target.dataset.at);
    const page = Math.floor(scroller.clientHeight / HEIGHT) - 2;
    const to = {ArrowDown: at === null ? Math.ceil(scroller.scrollTop / HEIGHT) : at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: order.length - 1}[event.key];
    if (to === undefined || (at === null && event.key !== "ArrowDown") || event.target.closest("thead")) return;
    event.preventDefault();
    focusRow(to);
  });
  let waiting;
  form.addEventListener("input", event => {
    clearTimeout(waiting);
    waiting = setTimeout(update, event.target.type === "search" ? 120 : 0);
  });
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => { sorted = {column: null, down: false}; setTimeout(update); });
  for (const button of document.querySelectorAll("[data-filter]")) button.addEventListener("click", () => {
    form.reset();
    const {filter, value} = button.dataset;
    $("f-" + filter).value = filter === "label" ? D.labels.indexOf(value) : value;
    $("table").scrollIntoView();
    $("f-" + filter).focus({preventScroll: true});
  });
  $("save").addEventListener("click", () => {
    const quoted = text => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const lines = order.map(row => [quoted(D.id[row]), degrees(D.ra[row]), degrees(D.dec[row]), label(row), D.flag[row], Number.isNaN(p(chosen(), row)) ? "" : p(chosen(), row)].join(","));
    const text = [`id,ra,dec,morph_label,morph_flag,p_${D.names[chosen()]}`, ...lines, ""].join("\n");
    const link = make("a", {href: URL.createObjectURL(new Blob([text], {type: "text/csv"})), download: "rows.csv"});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  // One galaxy.
  const dialog = $("detail");
  const open = row => {
    current = row;
    $("d-title").textContent = D.id[row] || "row " + D.row[row];
    const side = make("div"), image = picture(row);
    side.append(image ?? make("p", {class: "small", text: "No picture here. " + (D.reasons[row] ?? "The report holds pictures of some galaxies only.")}));
    if (classified(row)) side.append(make("p", {}, make("b", {text: words(label(row))}), make("br"), `entropy ${shown(D.entropy[row])} nats` + (D.ood ? `, unlikeness ${shown(D.ood[row])}` : "")));
    for (const flag of flags(row)) side.append(make("p", {class: "small", text: `Flag ${flag.bit} ${words(flag.name)}: ${flag.meaning}.`}));
    if (located(row)) side.append(make("p", {}, `${degrees(D.ra[row])}, ${degrees(D.dec[row])} (ICRS deg)`, make("br"), sky(row, "Legacy Surveys viewer")));
    const questions = make("div", {class: "d-questions"});
    for (const question of D.questions) {
      const answers = question.labels.map((i, k) => [words(question.answers[k]), p(i, row)]);
      if (D.classes) answers.sort((a, b) => b[1] - a[1]);
      questions.append(make("section", {}, make("h3", {text: words(question.name)}), make("div", {class: "bars"}, ...answers.map(([name, value]) => bar(name, value)))));
    }
    $("d-body").replaceChildren(make("div", {class: "d-grid"}, side, classified(row) ? questions : make("p", {text: "No probability: " + (D.reasons[row] ?? flags(row).map(flag => flag.meaning).join("; ")) })));
    if (!dialog.open) dialog.showModal();
  };
  const step = by => {
    const at = order.indexOf(current) + by;
    if (order[at] !== undefined) open(order[at]);
  };
  $("d-close").addEventListener("click", () => dialog.close());
  $("d-prev").addEventListener("click", () => step(-1));
  $("d-next").addEventListener("click", () => step(1));
  dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", event => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  update();
  document.documentElement.dataset.ready = "true";
}
