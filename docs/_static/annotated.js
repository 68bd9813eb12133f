// The annotated script: the pseudocode line under the mouse or the keyboard lights up the code that cites its number,
// and a code line its pseudocode. A line that was clicked or tapped, or jumped to, stays lit, and the other side is
// brought to what it lit. The code opens at train().
const bring = (line) => {
  const pane = line?.closest(".left > .pane, .right");
  if (!pane) return;
  if (pane.scrollHeight > pane.clientHeight) {
    const below = line.getBoundingClientRect().top - pane.getBoundingClientRect().top;
    pane.scrollTop += below - pane.clientHeight / 3;
  }
  line.scrollIntoView({ block: "nearest", behavior: "instant" });
};

for (const box of document.querySelectorAll(".annotated")) {
  const numbers = (el) => {
    const line = el instanceof Element && el.closest("[data-cites], [data-part]");
    return line && box.contains(line) ? (line.dataset.cites ?? line.dataset.part).split(" ") : null;
  };
  let pointed = null;
  let focused = null;
  let clicked = null;

  const light = () => {
    const anchor = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const lit = pointed ?? focused ?? clicked ?? numbers(anchor) ?? (box.dataset.lit ? [box.dataset.lit] : []);
    for (const line of box.querySelectorAll("[data-cites], [data-part]")) {
      const has = (list) => lit.some((n) => (list ?? "").split(" ").includes(n));
      line.classList.toggle("lit", has(line.dataset.cites));
      line.classList.toggle("lit-part", has(line.dataset.part));
    }
  };

  // the line of the other side that belongs to el: of the code, the one that train() has, if any
  const partner = (el) => {
    if (el.closest(".right")) return box.querySelector(".left .lit");
    const place = el.closest("li")?.querySelector(".places a");
    return place && document.getElementById(place.hash.slice(1));
  };

  box.addEventListener("pointerover", (e) => ((pointed = numbers(e.target)), light()));
  box.addEventListener("pointerleave", () => ((pointed = null), light()));
  box.addEventListener("focusin", (e) => {
    focused = numbers(e.target);
    light();
    if (e.target.matches(":focus-visible")) bring(partner(e.target));
  });
  box.addEventListener("focusout", () => ((focused = null), light()));
  box.addEventListener("click", (e) => {
    clicked = numbers(e.target);
    light();
    if (!e.target.closest("a")) bring(partner(e.target));
  });
  addEventListener("hashchange", () => ((clicked = null), light()));
  light();

  const code = box.querySelector(".right");
  const train = document.getElementById(box.dataset.train);
  if (train && !location.hash) {
    code.scrollTop = train.getBoundingClientRect().top - code.getBoundingClientRect().top;
  }
}
