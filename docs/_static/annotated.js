// The annotated script: the pseudocode line under the mouse or the keyboard lights up the code that cites its number,
// and a code line its pseudocode. A line that was jumped to (its anchor is in the address) stays lit.
for (const box of document.querySelectorAll(".annotated")) {
  const numbers = (el) => {
    const line = el instanceof Element && el.closest("[data-cites], [data-part]");
    return line && box.contains(line) ? (line.dataset.cites ?? line.dataset.part).split(" ") : null;
  };
  let pointed = null;
  let focused = null;

  const light = () => {
    const anchor = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const lit = pointed ?? focused ?? numbers(anchor) ?? [];
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
  addEventListener("hashchange", light);
  light();
}
