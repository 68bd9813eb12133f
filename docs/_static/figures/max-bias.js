// Estimates of n actions, all of value 0, with noise: what the largest of them says, and the smaller of two critics.
figure("max-bias", {
  alt: "Three bell-shaped curves over the value axis, whose true value is 0. One estimate is centred on 0. The largest of n estimates is centred well above 0, the further the more actions and noise. The smaller of two independent critics, at the action that the first likes best, is centred near or below 0.",
  controls: [
    ["n", "actions n", 1, 20, 1, 8],
    ["sigma", "noise σ of an estimate", 0.1, 1.5, 0.1, 1],
  ],
  draw({ n, sigma }) {
    const trials = 4000;
    this.noise ??= normals(trials * 40, 2);
    const samples = { one: [], max: [], min: [] };
    for (const i of range(trials)) {
      let best = 0;
      for (let a = 1; a < n; a++) if (this.noise[40 * i + a] > this.noise[40 * i + best]) best = a;
      const [q1, q2] = [sigma * this.noise[40 * i + best], sigma * this.noise[40 * i + 20 + best]];
      samples.one.push(sigma * this.noise[40 * i]);
      samples.max.push(q1);
      samples.min.push(Math.min(q1, q2));
    }
    const mean = (list) => list.reduce((x, y) => x + y) / trials;
    const density = (list) => {
      const bins = new Array(50).fill(0);
      for (const x of list) if (Math.abs(x) < 4) bins[Math.floor((x + 4) / 0.16)]++;
      return bins.map((count, k) => [-4 + 0.16 * (k + 0.5), count / trials / 0.16]);
    };
    const curves = Object.entries(samples).map(([key, list]) => [{ one: "c", max: "b", min: "a" }[key], density(list), mean(list)]);
    const top = 1.35 * Math.max(...curves.flatMap(([, points]) => points.map(([, y]) => y)));
    const plot = new Plot({ x: [-4, 4], y: [0, top], xLabel: "estimated value; the true value is 0", xTicks: [-4, -3, -2, -1, 0, 1, 2, 3, 4] });
    for (const [cls, points, m] of curves) {
      plot.line(points, cls);
      plot.line([[m, 0], [m, top * 0.75]], `${cls} dashed`);
    }
    plot.text(-3.85, 0.92 * top, "one estimate", "c");
    plot.text(-3.85, 0.85 * top, "largest of n", "b");
    plot.text(-3.85, 0.78 * top, "smaller of two critics there", "a");
    const [, over, under] = curves.map(([, , m]) => m);
    const words = `The largest of ${n} estimates is ${show(over)} on average, though every action is worth 0.`;
    return [[plot], `${words} The smaller of two critics at that action says ${show(under)}.`];
  },
});
