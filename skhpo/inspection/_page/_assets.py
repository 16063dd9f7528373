"""Style and script of the page, written into it: it needs no network."""

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1a1a1a;margin:0 auto;max-width:1180px;
padding:1.2rem}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:1.8rem 0 .5rem}
.sub{color:#555}.cards{display:flex;flex-wrap:wrap;gap:.7rem;margin:1rem 0}
.card{border:1px solid #ddd;border-radius:8px;padding:.5rem .9rem}
.card b{display:block;font-size:1.25rem}
.row{display:flex;flex-wrap:wrap;gap:1rem}.row>*{flex:1 1 320px;min-width:0}
.four>*{flex-basis:230px}
svg{width:100%;height:auto;font:11px system-ui,sans-serif}svg .axis{stroke:#444;fill:none}
svg .label{font-size:12px}svg .tick{font-size:9px;paint-order:stroke;stroke:#fff;stroke-width:2px}
svg .config{stroke-width:1;stroke-opacity:.55}svg [data-row]{cursor:pointer}
svg .on{stroke:#D55E00;stroke-width:3;stroke-opacity:1}circle.on{fill:#D55E00;fill-opacity:1;r:5}
pre{background:#f5f5f5;padding:.7rem;overflow:auto;border-radius:6px;font-size:13px}
.scroll{overflow:auto;max-height:34rem;border:1px solid #ddd}
table{border-collapse:collapse;font-size:13px;white-space:nowrap}
th{position:sticky;top:0;background:#eee;cursor:pointer;text-align:left;padding:.3rem .6rem}
td{padding:.2rem .6rem;border-top:1px solid #eee;font-variant-numeric:tabular-nums}
tr.on td{background:#fde8d8}tr.best td{font-weight:600}
#tip{position:fixed;display:none;background:#fff;border:1px solid #999;border-radius:6px;
padding:.4rem .6rem;font-size:12px;max-width:24rem;pointer-events:none;white-space:pre-wrap;
z-index:9}
input{font:inherit;padding:.3rem .5rem;width:18rem;max-width:100%;margin:0 0 .5rem}
"""

SCRIPT = """
(function () {
  const table = document.getElementById("rows"), tip = document.getElementById("tip");
  if (!table) return;
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows], byRow = new Map(rows.map(row => [row.dataset.row, row]));
  const key = cell => cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  heads.forEach((head, i) => head.addEventListener("click", () => {
    const down = head.dataset.down !== "1";
    heads.forEach(other => { delete other.dataset.down; other.removeAttribute("aria-sort"); });
    head.dataset.down = down ? "1" : "0";
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.sort((a, b) => {
      const x = key(a.cells[i]), y = key(b.cells[i]);
      if (x === y) return 0;
      if (Number.isNaN(x) || x === "") return 1;
      if (Number.isNaN(y) || y === "") return -1;
      return (x < y ? -1 : 1) * (down ? -1 : 1);
    });
    body.append(...rows);
  }));
  const filter = document.getElementById("filter"), count = document.getElementById("count");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach(row => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    });
    count.textContent = shown + " of " + rows.length + " rows";
  });
  const light = (number, on) => document.querySelectorAll('[data-row="' + number + '"]')
    .forEach(part => part.classList.toggle("on", on));
  document.addEventListener("mouseover", event => {
    const part = event.target.closest("svg [data-row], tr[data-row]");
    if (!part) return;
    light(part.dataset.row, true);
    const row = byRow.get(part.dataset.row);
    if (row && part.tagName !== "TR") {
      part.parentNode.append(part);
      tip.textContent = heads.map((head, i) => [head.textContent, row.cells[i].textContent])
        .filter(pair => pair[1] !== "").map(pair => pair.join(": ")).join("\\n");
      tip.style.display = "block";
      tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
      tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
    }
  });
  document.addEventListener("mouseout", event => {
    const part = event.target.closest("[data-row]");
    if (part) light(part.dataset.row, false);
    tip.style.display = "none";
  });
})();
"""
