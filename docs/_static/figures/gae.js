// Advantages of a made-up path of twelve steps, as λ goes from one TD error to the whole path.
figure("gae", {
  alt: "Two rows of bars over the twelve steps of a made-up path. Above: the TD errors δ, shaded by the weight with which each counts for the chosen step. Below: the advantages that follow from them; small marks show what they would be for λ = 0 and for λ = 1.",
  height: 400,
  controls: [
    ["lam", "λ", 0, 1, 0.01, 0.9],
    ["t", "step t", 0, 11, 1, 2],
  ],
  draw({ lam, t }) {
    const gamma = 0.99;
    const r = [0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0];
    const v = [1, 1.6, 0.7, 1.4, 0.6, 1.3, 1.1, 1.8, 1.5, 0.5, -0.2, 0.4, 0]; // 0: the path ends in a terminal state
    const delta = r.map((x, i) => x + gamma * v[i + 1] - v[i]);
    const advantages = (l) => {
      const out = [...delta];
      for (let i = out.length - 2; i >= 0; i--) out[i] += gamma * l * out[i + 1];
      return out;
    };
    const adv = advantages(lam);
    const ends = [advantages(0), advantages(1)];
    const weight = (i) => (i < t ? 0 : (gamma * lam) ** (i - t));
    const axes = { x: [-0.6, 11.6], y: [-2.2, 2.8], yTicks: [-2, -1, 0, 1, 2] };
    const top = new Plot({ ...axes, at: [46, 12, 420, 150], yLabel: "TD error δ, shaded by its weight for step t" });
    const low = new Plot({ ...axes, y: [-2.2, 3.6], at: [46, 190, 420, 150], xTicks: range(12), xLabel: "step", yLabel: "advantage Â" });
    for (const plot of [top, low]) plot.curve(() => 0, "thin", 1);
    for (const i of range(12)) {
      top.bar(i, delta[i], 0.7, "outline");
      if (weight(i) > 0.001) top.bar(i, delta[i], 0.7, "b", weight(i));
      low.bar(i, adv[i], 0.7, i === t ? "b" : "a");
      low.line([[i - 0.42, ends[0][i]], [i + 0.42, ends[0][i]]], "c");
      low.line([[i - 0.42, ends[1][i]], [i + 0.42, ends[1][i]]], "d");
    }
    low.text(7.2, 3, "— λ = 0", "c");
    low.text(9.4, 3, "— λ = 1", "d");
    const near = range(12).filter((i) => weight(i) >= 0.5).length;
    const what =
      lam === 0
        ? "Only its own TD error counts: little noise, and all the error of V."
        : lam === 1
          ? "All TD errors to the end count: the path's return less V, with all its noise."
          : `${near} TD error${near > 1 ? "s" : ""} from it on count${near > 1 ? "" : "s"} at least half.`;
    return [[top, low], `For λ = ${show(lam)} the advantage of step ${t} is ${show(adv[t])}. ${what}`];
  },
});
