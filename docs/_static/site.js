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
