// Typesets every element of class "math": its data-tex, or else its text, is LaTeX.
for (const el of document.querySelectorAll(".math")) {
  const displayMode = el.tagName === "DIV";
  katex.render(el.dataset.tex ?? el.textContent, el, { displayMode, throwOnError: false, strict: "ignore" });
}
