// The annotated script: the pseudocode line under the mouse or the keyboard lights up the code that cites its number,
// and a code line its pseudocode. A line that was clicked or tapped, or jumped to, stays lit.
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
  box.addEventListener("pointerover", (e) => ((pointed = numbers(e.target)), light()));
  box.addEventListener("pointerleave", () => ((pointed = null), light()));
  box.addEventListener("focusin", (e) => ((focused = numbers(e.target)), light()));
  box.addEventListener("focusout", () => ((focused = null), light()));
  box.addEventListener("click", (e) => ((clicked = numbers(e.target)), light()));
  addEventListener("hashchange", () => ((clicked = null), light()));
  light();
}
