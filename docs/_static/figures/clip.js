// PPO's clipped objective of one action against its probability ratio.
figure("clip", {
  alt: "A plot of PPO's objective for one action against the ratio ρ of its new and old probability. A straight line through zero with slope Â, and the clipped objective, which follows it and turns flat where moving ρ further from 1 would gain: above 1 + ε for a positive advantage, below 1 − ε for a negative one.",
  controls: [
    ["adv", "advantage Â", -1.5, 1.5, 0.1, 1],
    ["ratio", "ratio ρ", 0, 2, 0.02, 1.4],
    ["eps", "clip range ε", 0.05, 0.5, 0.05, 0.2],
  ],
  draw({ adv, ratio, eps }) {
    const clip = (x) => Math.min(Math.max(x, 1 - eps), 1 + eps);
    const objective = (x) => Math.min(x * adv, clip(x) * adv);
    const ticks = { xTicks: [0, 0.5, 1, 1.5, 2], yTicks: [-2, -1, 0, 1, 2] };
    const plot = new Plot({ x: [0, 2], y: [-2.5, 2.5], xLabel: "ratio ρ", yLabel: "objective", ...ticks });
    plot.band(1 - eps, 1 + eps);
    plot.text(1, -2.35, "1 − ε … 1 + ε", "middle");
    plot.curve(() => 0, "thin");
    plot.curve((x) => x * adv, "b dashed");
    plot.curve(objective, "a");
    plot.dot(ratio, objective(ratio), "a");
    const x = adv >= 0 ? 1.75 : 0.25; // where the two part
    plot.text(x, x * adv + (adv >= 0 ? 0.45 : 0.25), "ρ Â", "b middle");
    plot.text(x, objective(x) - 0.4, "clipped", "a middle");
    const flat = adv > 0 ? ratio > 1 + eps : ratio < 1 - eps;
    const side = ratio > 1 ? "more" : "less";
    const why =
      adv === 0
        ? "An action no better than the others: nothing to learn from it."
        : flat
          ? `The slope is 0: the action is already ${side} probable by more than ε, as it should be, and moving on gains nothing.`
          : `The slope is ${show(adv, 1)}: a step of gradient ascent makes the action ${adv > 0 ? "more" : "less"} probable.`;
    return [[plot], `At ρ = ${show(ratio)} and Â = ${show(adv, 1)} the objective is ${show(objective(ratio))}. ${why}`];
  },
});
