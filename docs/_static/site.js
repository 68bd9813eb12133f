// What scrolls sideways can be scrolled by the keyboard: code, tables and formulas that are wider than the page.
const reach = () => {
  for (const el of document.querySelectorAll("article :is(pre, .table-wrapper, div.math)")) {
    if (el.scrollWidth > el.clientWidth) el.tabIndex = 0;
    else el.removeAttribute("tabindex");
  }
};
addEventListener("load", reach);
addEventListener("resize", reach);
// Search results quote a page without its formulas, which would show as TeX.
if (typeof Search !== "undefined") {
  const toText = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    for (const el of page.querySelectorAll(".math")) el.replaceWith("…");
    return toText(page.documentElement.outerHTML, anchor);
  };
}

// Films play while they are in view, unless the reader has asked for less motion.
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) isIntersecting ? target.play() : target.pause();
  });
  for (const video of document.querySelectorAll(".film video")) seen.observe(video);
}
