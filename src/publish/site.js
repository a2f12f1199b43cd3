"use strict";
(() => {
  // Filters: a word in the text box must be in an item's text, a choice among the item's data of that name.
  for (const form of document.querySelectorAll("form.filter")) {
    const items = [...document.querySelectorAll(form.dataset.items)];
    const texts = items.map((item) => (item.dataset.text || item.textContent).toLowerCase());
    const counted = items.map((item) => item.matches(form.dataset.counted));
    const total = counted.filter(Boolean).length;
    const apply = () => {
      const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
      const chosen = [...form.querySelectorAll("select")].filter((select) => select.value);
      let shown = 0;
      items.forEach((item, index) => {
        const has = (select) => (item.dataset[select.name] || "").split("\n").includes(select.value);
        const hit = words.every((word) => texts[index].includes(word)) && chosen.every(has);
        item.hidden = !hit;
        if (hit && counted[index]) shown += 1;
      });
      form.querySelector("output").textContent = `${shown} of ${total} ${form.dataset.noun}`;
    };
    form.hidden = false;
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  // Plots: the point nearest to the pointer, or chosen with the arrow keys, is told in words from the table below.
  const tip = document.getElementById("tip");
  for (const plot of document.querySelectorAll("[data-spots]")) {
    const spots = plot.dataset.spots.split(" ").map((spot) => spot.split(",").map(Number));
    const table = document.getElementById(plot.dataset.table);
    const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
    const ring = document.createElement("div");
    ring.className = "ring";
    ring.hidden = true;
    plot.append(ring);
    let at = spots.length - 1;
    const hide = () => {
      tip.hidden = true;
      ring.hidden = true;
    };
    const show = (index) => {
      at = Math.max(0, Math.min(spots.length - 1, index));
      const cells = [...table.tBodies[0].rows[spots.length - 1 - at].cells];
      tip.replaceChildren(...cells.map((cell, column) => {
        const line = document.createElement("div");
        line.textContent = `${heads[column]}: ${cell.textContent}`;
        return line;
      }));
      const box = plot.getBoundingClientRect();
      const scale = box.width / Number(plot.dataset.width);
      const [x, y] = [spots[at][0] * scale, spots[at][1] * scale];
      ring.style.left = `${x}px`;
      ring.style.top = `${y}px`;
      ring.hidden = false;
      tip.hidden = false;
      const left = box.left + x + 14;
      const over = left + tip.offsetWidth > document.documentElement.clientWidth - 8;
      tip.style.left = `${Math.max(8, over ? box.left + x - tip.offsetWidth - 14 : left)}px`;
      tip.style.top = `${Math.max(8, Math.min(box.top + y - 20, window.innerHeight - tip.offsetHeight - 8))}px`;
    };
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * Number(plot.dataset.width);
      let nearest = 0;
      spots.forEach((spot, index) => {
        if (Math.abs(spot[0] - x) < Math.abs(spots[nearest][0] - x)) nearest = index;
      });
      show(nearest);
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("focus", () => show(at));
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: spots.length - 1 }[event.key];
      if (event.key === "Escape") hide();
      if (to !== undefined) {
        event.preventDefault();
        show(to);
      }
    });
  }
})();
