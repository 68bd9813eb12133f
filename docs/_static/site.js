// What scrolls sideways can be scrolled by the keyboard: code, tables and formulas that are wider than the page.
const reach = () => {
  for (const el of document.querySelectorAll("article :is(pre, .table-wrapper, div.math)")) {
    if (el.scrollWidth > el.clientWidth) el.tabIndex = 0;
    else el.removeAttribute("tabindex");
  }
};
addEventListener("load", reach);
addEventListener("resize", reach);
