// Search: Sphinx's own scores, and first of all the page that is named as was asked ("ppo": algorithms/ppo).
const asked = (new URLSearchParams(location.search).get("q") ?? "").trim().toLowerCase();

var Scorer = {
  score: ([docname, title, , , score]) => {
    const name = docname.split("/").pop();
    const inTitle = title.toLowerCase().split(/\W+/).includes(asked);
    return score + (name === asked ? 100 : 0) + (inTitle && !name.endsWith("-annotated") ? 20 : 0);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
